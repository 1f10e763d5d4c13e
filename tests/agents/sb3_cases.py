"""What the tests of the Stable-Baselines3 agents share: quick settings, SB3's own training, and ours."""

from __future__ import annotations

from typing import Any

import stable_baselines3
import torch
from torch import Tensor

from gridmarl.agents.registry import make_agent
from gridmarl.envs import make_batched
from gridmarl.envs.adapters.sb3 import SB3VecEnv
from gridmarl.protocols import Agent, AgentContext, Transition

NAMES = ("sb3-ppo", "sb3-a2c", "sb3-dqn", "sb3-sac")
PROSUMERS, LANES, HOURS = 2, 3, 5
ROWS = PROSUMERS * LANES
# Several updates within a few dozen steps; rollouts end within and at the end of an episode.
QUICK: dict[str, dict[str, Any]] = {
    "sb3-ppo": {"n_steps": 8, "batch_size": 12, "n_epochs": 2},
    "sb3-a2c": {"n_steps": 5},
    "sb3-dqn": {"learning_starts": 24, "batch_size": 8, "target_update_interval": 30, "train_freq": 2},
    "sb3-sac": {"learning_starts": 24, "batch_size": 8, "gradient_steps": 2, "net_arch": [16]},
}


def market(space: str, **params: Any) -> Any:
    settings = {"num_prosumers": PROSUMERS, "horizon_hours": HOURS, "action_space": space, **params}
    return make_batched("two-stage-dr", settings, num_envs=LANES)


def space_of(name: str) -> str:
    return "discrete" if name == "sb3-dqn" else "continuous"


def context_of(env: Any, seed: int = 0, **options: Any) -> AgentContext:
    return AgentContext(
        env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, seed, options
    )


def agent_in(name: str, env: Any, seed: int = 0, **options: Any) -> Any:
    return make_agent(name, context_of(env, seed, **{**QUICK[name], **options}))


def advance(agent: Agent, env: Any, observation: Tensor, steps: int, reports: list[Any] | None = None) -> Tensor:
    """The training loop's own sequence."""
    for _ in range(steps):
        action = agent.act(observation, explore=True)
        step = env.step(action)
        report = agent.learn(
            Transition(observation, action, step.reward, step.final_observation, step.terminated, step.truncated)
        )
        if report and reports is not None:
            reports.append(report)
        observation = step.observation
    return observation


def sb3_trained(name: str, env: Any, steps: int, seed: int = 0, activation: Any = None, **options: Any) -> Any:
    """SB3's own model after its own `learn`; `steps` of all lanes."""
    algorithm = getattr(stable_baselines3, name.removeprefix("sb3-").upper())
    policy: dict[str, Any] = {} if activation is None else {"activation_fn": activation}
    if "net_arch" in options:
        policy["net_arch"] = options.pop("net_arch")
    model = algorithm("MlpPolicy", SB3VecEnv(env), seed=seed, device="cpu", policy_kwargs=policy, **options)
    return model.learn(steps * env.num_envs * env.num_agents)


def tensors(model: Any) -> dict[str, Tensor]:
    """All that is trained: policy, target networks, optimisers, SAC's entropy coefficient."""
    found: dict[str, Tensor] = {}

    def collect(prefix: str, value: Any) -> None:
        if isinstance(value, Tensor):
            found[prefix] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                collect(f"{prefix}.{key}", item)

    collect("parameters", model.get_parameters())
    collect("variables", {name: getattr(model, name).detach() for name in model._get_torch_save_params()[1]})
    return found


def assert_equal_bits(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name

"""TorchRL on gridmarl: the batched market as a TorchRL environment, and PPO with TorchRL's own GAE and ClipPPOLoss.

TorchRL sees every prosumer of every lane as one environment: batch size `[lanes, prosumers]`. All of them share one
policy network, which each feeds with its own observation.

    python torchrl_ppo.py --iterations 20
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase, ExplorationType, check_env_specs, set_exploration_type
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from gridmarl.agents.registry import make_agent
from gridmarl.envs import make_batched
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, BatchedEnv
from gridmarl.scenarios.registry import named_scenario

HOURS = 24
HELD_OUT = 1_000_000  # seed of the evaluation episodes


class MarketEnv(EnvBase):
    """A batched environment of gridmarl for TorchRL.

    Keys: `observation` `[E, P, F]` float32, `action` `[E, P, size]` float32 (or `[E, P]` int64 where actions are
    discrete), `reward` `[E, P, 1]` float32 in tokens, `done`, `terminated` and `truncated` `[E, P, 1]` bool.

    Args:
        market: built with `auto_reset=False`, since TorchRL resets by itself.
        subtract: name of an observation field to take off the reward; the agents' choices do not change it. In the
            two-stage market `outside_option_tok`, what a prosumer would get without a market.

    Raises:
        ConfigError: a reset of some environments only. All lanes of a market reach the horizon together.
    """

    batch_locked = True

    def __init__(self, market: BatchedEnv, subtract: str | None = None) -> None:
        lanes, agents = market.num_envs, market.num_agents
        super().__init__(device=market.device, batch_size=torch.Size([lanes, agents]))
        self.market = market
        names = [field.name for field in market.observation_fields]
        self._subtracted = None if subtract is None else names.index(subtract)
        self._next_seed = 0
        self._observation = torch.zeros(lanes, agents, len(names), device=market.device)
        low = torch.tensor([field.low for field in market.observation_fields], device=market.device)
        high = torch.tensor([field.high for field in market.observation_fields], device=market.device)
        shape = self._observation.shape
        seen = Bounded(low.expand(shape), high.expand(shape), shape, dtype=torch.float32, device=market.device)
        self.observation_spec = Composite(observation=seen, shape=self.batch_size)
        spec = market.action_spec
        if spec.num_actions:
            self.action_spec = Categorical(spec.num_actions, shape=self.batch_size, device=market.device)
        else:
            self.action_spec = Bounded(-1.0, 1.0, (*self.batch_size, spec.size), device=market.device)
        self.reward_spec = Unbounded((*self.batch_size, 1), device=market.device)
        flag = Categorical(2, shape=(*self.batch_size, 1), dtype=torch.bool, device=market.device)
        flags = {"done": flag, "terminated": flag.clone(), "truncated": flag.clone()}
        self.done_spec = Composite(flags, shape=self.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        self._next_seed = 0 if seed is None else seed

    def _reset(self, tensordict: TensorDictBase | None = None) -> TensorDict:
        asked = None if tensordict is None else tensordict.get("_reset", None)
        if asked is not None and not bool(asked.all()):
            raise ConfigError("reset of some environments; allowed is all of them, they reach the horizon together")
        self._observation = self.market.reset(self._next_seed)  # each episode is a seed of its own
        self._next_seed += 1
        return self._tensors(observation=self._observation)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        result = self.market.step(tensordict["action"])
        reward = result.reward
        if self._subtracted is not None:
            reward = reward - self._observation[:, :, self._subtracted]
        self._observation = result.final_observation
        return self._tensors(
            observation=result.final_observation,
            reward=reward.unsqueeze(-1),
            terminated=self._per_agent(result.terminated),
            truncated=self._per_agent(result.truncated),
            done=self._per_agent(result.terminated | result.truncated),
        )

    def _per_agent(self, flag: Tensor) -> Tensor:
        return flag.reshape(-1, 1, 1).expand(*self.batch_size, 1).clone()

    def _tensors(self, **values: Tensor) -> TensorDict:
        return TensorDict(values, batch_size=self.batch_size, device=self.device)


class SymLog(nn.Module):
    """`sign(x) log(1 + |x|)`: observation fields differ in size by orders of magnitude."""

    def forward(self, values: Tensor) -> Tensor:
        """Same shape, float32."""
        return values.sign() * values.abs().log1p()


def networks(env: MarketEnv, hidden: int = 64) -> tuple[ProbabilisticActor, ValueOperator]:
    """Policy and value, each two layers, shared by all prosumers."""
    fields, actions = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]

    def body(outputs: int) -> list[nn.Module]:
        last = nn.Linear(hidden, outputs)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        return [SymLog(), nn.Linear(fields, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last]

    extractor = NormalParamExtractor(scale_mapping="biased_softplus_0.3")
    parameters = TensorDictModule(nn.Sequential(*body(2 * actions), extractor), ["observation"], ["loc", "scale"])
    actor = ProbabilisticActor(
        parameters,
        in_keys=["loc", "scale"],
        spec=env.action_spec,
        distribution_class=TanhNormal,
        default_interaction_type=ExplorationType.RANDOM,  # without it a rollout would act at the mode
        return_log_prob=True,
    )
    return actor, ValueOperator(nn.Sequential(*body(1)), in_keys=["observation"])


def held_out_return(env: MarketEnv, policy: Callable[[TensorDictBase], TensorDictBase]) -> float:
    """Reward per prosumer over episodes that no training saw, acting at the mode of the policy."""
    env.set_seed(HELD_OUT)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        rollout = env.rollout(HOURS, policy)
    return float(rollout["next", "reward"].sum(-2).mean())


def truthful(env: MarketEnv) -> Callable[[TensorDictBase], TensorDictBase]:
    """Gridmarl's own heuristic as a TorchRL policy, to compare with."""
    market = env.market
    fields, spec = market.observation_fields, market.action_spec
    agent = make_agent(
        "truthful", AgentContext(market.num_envs, market.num_agents, fields, spec, market.device, seed=0)
    )
    return lambda tensordict: tensordict.set("action", agent.act(tensordict["observation"], explore=False))


def train(scenario: str, iterations: int, lanes: int, epochs: int = 4, minibatches: int = 4) -> dict[str, list[float]]:
    """PPO; returns the loss of every update and the return of every iteration's rollout."""
    options = {"num_prosumers": 4, "horizon_hours": HOURS}
    market = make_batched("two-stage-dr", options, scenario=named_scenario(scenario), num_envs=lanes, auto_reset=False)
    env = MarketEnv(market, "outside_option_tok")
    check_env_specs(env)
    actor, critic = networks(env)
    # an hour's choice hardly changes later ones, so a short horizon of credit has the least noise
    advantage = GAE(gamma=0.5, lmbda=0.9, value_network=critic)
    loss_module = ClipPPOLoss(
        actor, critic, clip_epsilon=0.2, entropy_coeff=0.0, normalize_advantage=True, critic_coeff=0.5
    )
    optimiser = torch.optim.Adam(loss_module.parameters(), lr=1e-3)
    losses, returns, started = [], [], time.monotonic()
    env.set_seed(0)
    for iteration in range(iterations):
        with torch.no_grad():
            rollout = env.rollout(HOURS, actor)  # batch size [lanes, prosumers, hours]
        for _ in range(epochs):
            with torch.no_grad():
                advantage(rollout)
            flat = rollout.reshape(-1)
            for rows in torch.randperm(flat.shape[0]).chunk(minibatches):
                parts = loss_module(flat[rows])
                loss = parts["loss_objective"] + parts["loss_critic"] + parts["loss_entropy"]
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(loss_module.parameters(), 0.5)
                optimiser.step()
                losses.append(float(loss.detach()))
        returns.append(float(rollout["next", "reward"].sum(-2).mean()))
        print(f"iteration {iteration + 1}: loss {losses[-1]:.3f}, return {returns[-1]:.2f} tokens", flush=True)
    print(f"{iterations * lanes * HOURS / (time.monotonic() - started):,.0f} steps/s")
    learned, reference = held_out_return(env, actor), held_out_return(env, truthful(env))
    print(f"held out, tokens per prosumer over no market: PPO {learned:.2f}, truthful bidding {reference:.2f}")
    return {"losses": losses, "returns": returns}


def main() -> None:
    """Train, and fail where the loss is not finite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="toy", help="a name that `gridmarl list` shows")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--lanes", type=int, default=16)
    options = parser.parse_args()
    found = train(options.scenario, options.iterations, options.lanes)
    if not all(map(math.isfinite, found["losses"])):
        raise SystemExit("a loss is not finite")


if __name__ == "__main__":
    main()

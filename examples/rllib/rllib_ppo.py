"""RLlib on gridmarl: Ray's PPO on the market's PettingZoo environment, one policy network shared by all prosumers.

python rllib_ppo.py --iterations 20
"""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

# Read when Ray is imported: nothing sent over the network, and GPUs left as they are.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env

from gridmarl.envs.two_stage_dr.env import parallel_env
from gridmarl.envs.two_stage_dr.observe import FIELDS
from gridmarl.scenarios.registry import named_scenario

HOURS = 24
POLICY = "prosumer"
OUTSIDE_OPTION = [field.name for field in FIELDS].index("outside_option_tok")
NUMBERS = dict[str, Any]


class Market(MultiAgentEnv):
    """The market for RLlib: `prosumer_0 ..`, all acting every hour.

    As RLlib's own `ParallelPettingZooEnv`, and in addition: observations are `sign(x) log(1 + |x|)`, since fields
    differ in size by orders of magnitude, and rewards are what an hour brings beyond having no market.

    Args:
        config: `scenario` (a name that `gridmarl list` shows) and fields of `TwoStageDRParams`.
    """

    def __init__(self, config: NUMBERS) -> None:
        super().__init__()
        options = dict(config)
        self.market = parallel_env(scenario=named_scenario(options.pop("scenario")), **options)
        self.possible_agents = list(self.market.possible_agents)
        self.agents = list(self.possible_agents)
        self.observation_spaces = {name: self._seen(name) for name in self.agents}
        self.action_spaces = {name: self.market.action_space(name) for name in self.agents}
        self._outside = dict.fromkeys(self.agents, 0.0)

    def _seen(self, name: str) -> gym.spaces.Box:
        space = self.market.observation_space(name)
        return gym.spaces.Box(_symlog(space.low), _symlog(space.high), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: NUMBERS | None = None) -> tuple[NUMBERS, NUMBERS]:
        """Observations and infos of a new episode; without a seed the next one of the last seed."""
        observations, infos = self.market.reset(seed=seed, options=options)
        self.agents = list(self.market.agents)
        return self._keep(observations), infos

    def step(self, actions: NUMBERS) -> tuple[NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS]:
        """One hour; `__all__` says whether it was the last, which it is for all at once."""
        observations, rewards, terminated, truncated, infos = self.market.step(actions)
        gains = {name: reward - self._outside[name] for name, reward in rewards.items()}
        self.agents = list(self.market.agents)
        seen = self._keep(observations)
        return (
            seen,
            gains,
            {**terminated, "__all__": all(terminated.values())},
            {**truncated, "__all__": all(truncated.values())},
            infos,
        )

    def _keep(self, observations: NUMBERS) -> NUMBERS:
        self._outside = {name: float(row[OUTSIDE_OPTION]) for name, row in observations.items()}
        return {name: _symlog(row) for name, row in observations.items()}


def _symlog(values: np.ndarray) -> np.ndarray:
    return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)


def configuration(scenario: str, prosumers: int, episodes: int) -> PPOConfig:
    """RLlib's PPO: everything in this process, `episodes` days per iteration."""
    # an hour's choice hardly changes later ones, so a short horizon of credit has the least noise
    training = {"gamma": 0.5, "lambda_": 0.9, "lr": 1e-3, "num_epochs": 4, "entropy_coeff": 0.0, "grad_clip": 0.5}
    model = DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False)
    return (
        PPOConfig()
        .environment("market", env_config={"scenario": scenario, "num_prosumers": prosumers, "horizon_hours": HOURS})
        .framework("torch")
        .env_runners(num_env_runners=0, rollout_fragment_length="auto", batch_mode="complete_episodes")
        .learners(num_learners=0, num_gpus_per_learner=0)
        .multi_agent(policies={POLICY}, policy_mapping_fn=lambda agent, episode, **kwargs: POLICY)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={POLICY: RLModuleSpec(model_config=model)}))
        .training(
            train_batch_size_per_learner=episodes * HOURS, minibatch_size=episodes * HOURS,
            **training,
        )
        .reporting(metrics_num_episodes_for_smoothing=episodes)  # figures are those of the iteration alone
        .debugging(seed=0)
    )  # fmt: skip


def train(scenario: str, prosumers: int, iterations: int, episodes: int) -> list[tuple[float, float]]:
    """PPO; mean return per prosumer, in tokens beyond no market, and mean length of the episodes of each iteration."""
    register_env("market", Market)
    ray.init(
        address="local",
        num_cpus=1,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=128 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    found = []
    try:
        algorithm = configuration(scenario, prosumers, episodes).build_algo()
        for iteration in range(iterations):
            result = algorithm.train()["env_runners"]
            mean, hours = result["episode_return_mean"] / prosumers, result["episode_len_mean"]
            print(f"iteration {iteration + 1}: return {mean:.2f} tokens, {hours:.1f} hours", flush=True)
            found.append((float(mean), float(hours)))
        algorithm.stop()
    finally:
        ray.shutdown()
    return found


def main() -> None:
    """Train, and fail where a return is not finite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="toy", help="a name that `gridmarl list` shows")
    parser.add_argument("--prosumers", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--episodes", type=int, default=16, help="days per iteration")
    options = parser.parse_args()
    found = train(options.scenario, options.prosumers, options.iterations, options.episodes)
    if not all(math.isfinite(mean) for mean, _ in found):
        raise SystemExit("a return is not finite")


if __name__ == "__main__":
    main()

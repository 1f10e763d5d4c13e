"""SuperSuit on gridmarl: wrappers around the PettingZoo environment, and Stable-Baselines3's PPO on the result.

Every prosumer of every copy of the market becomes one environment of SB3 (parameter sharing). This is the general way
of PettingZoo; gridmarl's own `gridmarl.envs.adapters.sb3.SB3VecEnv` steps all copies as one batch and is much faster.

    python supersuit_sb3.py --steps 2400
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import supersuit
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn
from supersuit.vector.sb3_vector_wrapper import SB3VecEnvWrapper

from gridmarl.envs.two_stage_dr.env import parallel_env

HOURS = 24


class ForSB3(SB3VecEnvWrapper):
    """SuperSuit's own wrapper for SB3, with what current SB3 asks for and SuperSuit 3.11 leaves out.

    * `seed` and `get_attr`: SuperSuit passes both on to environments that do not have them (AttributeError);
    * `reset` drops the seed;
    * `TimeLimit.truncated`: without it SB3 takes the horizon for a termination and values nothing beyond it. A market
      never terminates, so every end is a truncation.
    """

    _next_seed: int | None = None

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seed of the next `reset`; copy `i` of the market gets `seed + i`."""
        self._next_seed = seed
        return [seed] * self.num_envs

    def reset(self) -> NDArray[np.float32]:
        """First observation `[num_envs, fields]` of a new episode."""
        observations, self.reset_infos = self.venv.reset(seed=self._next_seed)
        self._next_seed = None  # without a seed a market goes on to its next episode
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """As SuperSuit's, with the flag in the infos of those that ended."""
        observations, rewards, dones, infos = super().step_wait()
        for index in np.flatnonzero(dones):
            infos[index]["TimeLimit.truncated"] = True
        return observations, rewards, dones, infos

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The wrapper's own attribute, once per environment asked for."""
        return [getattr(self, attr_name, None) for _ in self._get_indices(indices)]


def vector_env(prosumers: int = 4, copies: int = 4, frames: int = 3) -> VecEnv:
    """`copies * prosumers` environments for SB3; observations of the last `frames` hours side by side."""
    market = parallel_env(num_prosumers=prosumers, horizon_hours=HOURS)
    market = supersuit.dtype_v0(market, np.float32)
    market = supersuit.frame_stack_v1(market, frames)
    market = supersuit.pad_observations_v0(market)  # prosumers see equal fields; an operator (operator=True) fewer
    vector = supersuit.pettingzoo_env_to_vec_env_v1(market)
    return ForSB3(supersuit.concat_vec_envs_v1(vector, copies, num_cpus=1, base_class="gymnasium"))


def main() -> None:
    """Train PPO and print its speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_400, help="of one prosumer")
    options = parser.parse_args()
    env = vector_env()
    model = PPO("MlpPolicy", env, n_steps=HOURS, batch_size=96, seed=0, device="cpu")
    began = time.monotonic()
    model.learn(options.steps)
    print(f"{env.num_envs} environments, observation {env.observation_space.shape}")
    print(f"{model.num_timesteps} steps, {model.num_timesteps / (time.monotonic() - began):,.0f} steps/s")
    print(f"mean reward of the last rollout: {float(np.mean(model.rollout_buffer.rewards)):.3f} tokens")


if __name__ == "__main__":
    main()

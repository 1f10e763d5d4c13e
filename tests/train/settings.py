"""One small run that the tests of the training loop share."""

from __future__ import annotations

from typing import Any

from gridmarl.train.config import TrainConfig
from tests.oracles.toy_env import IdentityEnv

TOTAL_STEPS = 1_600
LOG_INTERVAL = 88  # 11 steps of all lanes: rows, checkpoints and episodes (5 steps) end at different times
CHECKPOINT_INTERVAL = 320


def make_env() -> IdentityEnv:
    return IdentityEnv(num_envs=8, num_agents=2, symbols=3, horizon=5)


def settings(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "env_id": "toy/identity",
        "agent": "dqn",
        "total_steps": TOTAL_STEPS,
        "num_envs": 8,
        "seed": 7,
        "log_interval": LOG_INTERVAL,
        "checkpoint_interval": CHECKPOINT_INTERVAL,
        "agent_options": {
            "policy": "independent",
            "discount": 0.0,
            "hidden": [16],
            "batch_size": 32,
            "learning_starts": 100,
            "learning_rate": 0.01,
            "replay_capacity": 500,
            "target_interval": 7,
            "log_every": 5,
        },
        "tensorboard": False,
        "progress": "off",
    }
    return TrainConfig.from_mapping({**values, **changes})

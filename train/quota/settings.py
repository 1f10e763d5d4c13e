"""How learners are set up for EVQuota where nothing else is said; the reasons are in docs/ev-quota.md, "Learning"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gridmarl.train.options import parse_settings

LEARNING: dict[str, dict[str, Any]] = {
    "dqn": {
        "discount": 0.99,  # a day has 96 steps, and a vehicle may wait for most of them
        "n_step": 10,  # five half hours: what waiting brings is learned in days, not weeks
        "epsilon_start": 0.3,  # stations that act at random spoil the market, and lose far more than tariffs differ by
        "epsilon_end": 0.02,
        "exploration_steps": 80_000,
        "batch_size": 1024,
        "learning_rate": 5e-4,
    },
    "ppo": {"discount": 0.99},
    "mappo": {"discount": 0.99},
}
"""By agent: its options that differ from its own defaults."""


def agent_options(agent: str, settings: Sequence[str]) -> dict[str, Any]:
    """Options of an agent in this environment; `settings` (`name=value`) win.

    Raises:
        ConfigError: a setting that is not `name=value`, or set twice.
    """
    return {**LEARNING.get(agent, {}), **parse_settings(settings)}

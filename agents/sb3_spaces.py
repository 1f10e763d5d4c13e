"""What an agent is told of its spaces, as Gymnasium spaces; the same as those of the Stable-Baselines3 adapter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from gridmarl.protocols import ActionSpec, ObservationField


def observation_space(fields: Sequence[ObservationField]) -> spaces.Box:
    """Box float32 of the observation's fields."""
    low = np.array([item.low for item in fields], dtype=np.float32)
    high = np.array([item.high for item in fields], dtype=np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def action_space(spec: ActionSpec) -> spaces.Discrete | spaces.Box:
    """Discrete, or Box in [-1, 1]."""
    return spaces.Discrete(spec.num_actions) if spec.num_actions else spaces.Box(-1.0, 1.0, (spec.size,), np.float32)

"""From tensors to the host: frames are drawn there, from one lane of a period that is settled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gridmarl.errors import ConfigError

Integers = NDArray[np.int64]


def on_host(values: Tensor) -> Integers:
    """A copy as an array."""
    copied: Integers = values.cpu().numpy().copy()
    return copied


def checked_lane(lane: int, lanes: int) -> int:
    """The lane itself; ConfigError if there is no such lane."""
    if not 0 <= lane < lanes:
        raise ConfigError(f"lane: {lane}, allowed are 0 .. {lanes - 1}")
    return lane

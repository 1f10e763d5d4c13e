"""Generators of an agent's own for a library that draws from the global ones of NumPy and torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class _States(NamedTuple):
    numpy: dict[str, Any]
    torch: Tensor
    cuda: Tensor | None


class OwnGenerators:
    """States of NumPy's and torch's generators, put in the place of the global ones while `in_use`.

    The process's own generators are as before afterwards, so the code run inside is a function of the seed, and
    nothing outside depends on it. They start as `numpy.random.seed(seed)` and `torch.manual_seed(seed)` would leave
    them; NumPy takes the lowest 32 bits of a greater seed.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._states = _States(
            np.random.RandomState(seed % 2**32).get_state(legacy=False),
            torch.Generator().manual_seed(seed).get_state(),
            torch.Generator(device).manual_seed(seed).get_state() if device.type == "cuda" else None,
        )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Draw from these generators instead of the process's."""
        outside = self._global_states()
        self._set_global(self._states)
        try:
            yield
        finally:
            self._states = self._global_states()
            self._set_global(outside)

    def _global_states(self) -> _States:
        on_cuda = self._device.type == "cuda"
        return _States(
            np.random.get_state(legacy=False),  # noqa: NPY002 -- what the library draws from
            torch.get_rng_state(),
            torch.cuda.get_rng_state(self._device) if on_cuda else None,
        )

    def _set_global(self, states: _States) -> None:
        np.random.set_state(states.numpy)  # noqa: NPY002 -- what the library draws from
        torch.set_rng_state(states.torch)
        if states.cuda is not None:
            torch.cuda.set_rng_state(states.cuda, self._device)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        numpy = self._states.numpy
        return {
            "numpy_key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "numpy_position": int(numpy["state"]["pos"]),
            "numpy_has_gauss": int(numpy["has_gauss"]),
            "numpy_gauss": float(numpy["gauss"]),
            "torch": self._states.torch.clone(),
            "cuda": None if self._states.cuda is None else self._states.cuda.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        # A checkpoint is read onto the run's device; torch wants the states of generators on the host.
        key = state["numpy_key"].cpu().numpy().astype(np.uint32)
        numpy = {
            "bit_generator": "MT19937",
            "state": {"key": key, "pos": state["numpy_position"]},
            "has_gauss": state["numpy_has_gauss"],
            "gauss": state["numpy_gauss"],
        }
        cuda = None if state["cuda"] is None else state["cuda"].cpu().clone()
        self._states = _States(numpy, state["torch"].cpu().clone(), cuda)

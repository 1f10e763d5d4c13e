"""Several processes that train one agent together (`torchrun`): gloo on CPUs, NCCL on GPUs.

Each has an equal share of the lanes and the same networks. What depends on all lanes (gradients, moments, returns) is
summed over the processes, so that they take the same steps as one process with all lanes, up to the rounding of sums.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from gridmarl.errors import ConfigError, DataError
from gridmarl.protocols import Workers


class TorchWorkers:
    """A process of a group that `torchrun` has started; an implementation of `gridmarl.protocols.Workers`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def add(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        dist.all_reduce(values)
        return values


@contextmanager
def torch_workers(device: str) -> Iterator[TorchWorkers]:
    """Join the group of processes that `torchrun` has started, and leave it at the end."""
    try:
        yield TorchWorkers(torch.device(device))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def started_by_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several that train together."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


def local_device(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """The device of this process: of several GPUs in a machine, each process takes its own."""
    return f"cuda:{environment.get('LOCAL_RANK', '0')}" if name == "cuda" else name


def share_of(lanes: int, workers: Workers) -> int:
    """Lanes of each process.

    Raises:
        ConfigError: they cannot be divided equally.
    """
    if lanes % workers.size:
        raise ConfigError(f"lanes: {lanes}, allowed are multiples of the {workers.size} processes")
    return lanes // workers.size


def any_of(workers: Workers, flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process; waits for all of them."""
    if workers.size == 1:
        return flag
    return bool(workers.add(torch.tensor(int(flag), device=device)) > 0)


def gather_states(workers: Workers, state: dict[str, Any]) -> list[Tensor] | None:
    """The states of all processes but the first, serialised, `[bytes]` uint8 each; None elsewhere than in the first."""
    if workers.size == 1:
        return []
    buffer = io.BytesIO()
    torch.save({} if workers.rank == 0 else state, buffer)
    parts: list[bytes | None] | None = [None] * workers.size if workers.rank == 0 else None
    dist.gather_object(buffer.getvalue(), parts, dst=0)
    if parts is None:
        return None
    return [torch.frombuffer(bytearray(cast(bytes, part)), dtype=torch.uint8) for part in parts[1:]]


def own_state(workers: Workers, checkpoint: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """This process's part of a checkpoint.

    Raises:
        ConfigError: it was written by another number of processes.
        DataError: a damaged part.
    """
    others: list[Tensor] = checkpoint.get("other_workers", [])
    if len(others) + 1 != workers.size:
        raise ConfigError(f"resume: {workers.size} processes; allowed are the checkpoint's {len(others) + 1}")
    if workers.rank == 0:
        return checkpoint
    with suppress(RuntimeError):
        content = io.BytesIO(others[workers.rank - 1].cpu().numpy().tobytes())
        return cast(dict[str, Any], torch.load(content, map_location=device, weights_only=True))
    raise DataError(f"resume: the checkpoint's part of process {workers.rank} is not readable")

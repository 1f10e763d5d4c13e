"""Slots (one step of one lane) that several processes hold together, each those of its own lanes.

All processes draw the same slots of all lanes, and each takes those that it has: so a minibatch of all processes has
the rows that one process with all lanes would have taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gridmarl.protocols import AgentContext


class SlotShare:
    """This process's slots. Slot `t * L + l` of all processes is step `t` of lane `l` of all `L` lanes."""

    def __init__(self, context: AgentContext) -> None:
        self.workers = context.workers
        self.num_envs = context.num_envs
        self.total_envs = context.num_envs * context.workers.size
        self._first = context.first_lane

    def _locate(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Where the slots lie here, and whether they do, `[B]` each."""
        lane = slots % self.total_envs - self._first
        return slots // self.total_envs * self.num_envs + lane, (lane >= 0) & (lane < self.num_envs)

    def own(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Of slots `[B]` of all processes those of this one: where they lie here, and which of the `B` they are.

        With several processes their number is read from the device.
        """
        if self.workers.size == 1:
            return slots, torch.arange(slots.shape[0], device=slots.device)
        here, mine = self._locate(slots)
        which = mine.nonzero().squeeze(1)
        return here.index_select(0, which), which

    def own_parts(self, order: Tensor, bounds: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Of slots `[S]` that are cut at `bounds` (from 0 to `S`) this process's, and where they are cut."""
        if self.workers.size == 1:
            return order, list(bounds)
        here, which = self.own(order)
        cuts = torch.tensor(list(bounds), device=order.device)
        return here, torch.searchsorted(which, cuts).tolist()


def standardised(values: Tensor, over: tuple[int, ...], share: SlotShare) -> Tensor:
    """`(values - mean) / (deviation + 1e-8)` over the given axes and all processes, each with as many values."""
    if share.workers.size == 1:
        deviation, mean = torch.std_mean(values, dim=over, keepdim=True, correction=0)
    else:
        size = share.workers.size
        mean = share.workers.add(values.mean(dim=over, keepdim=True)) / size
        deviation = (share.workers.add((values - mean).square().mean(dim=over, keepdim=True)) / size).sqrt()
    return (values - mean) / (deviation + 1e-8)

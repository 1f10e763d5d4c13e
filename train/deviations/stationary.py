"""The best stationary deviation of each prosumer, found on some episodes and measured on others.

What is found could have been played by a bidder that knows the distribution of prices and homes but not the draws, so
its mean gain on the test episodes estimates, without selection bias, a lower bound of the gain of a best response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gridmarl.train.deviations.family import apply, constant_rows, in_words, neighbours, unchanged
from gridmarl.train.deviations.lanes import MAX_LANES, Change, Market, hours_of_day, play_deviations
from gridmarl.train.deviations.policy import FrozenPolicy

ROUNDS = 3
"""Rounds of the search: one entry is changed in each, so more can be changed by the end."""


@dataclass(frozen=True)
class StationaryDeviations:
    """The deviations chosen, one for each of `G` prosumers, and what they gain."""

    deviation: Tensor  # [G, size, 3] float32, see deviation_family
    words: list[str]
    selection_gain_utok: Tensor  # [G, E] on the episodes that they were chosen on, mean >= 0 by construction
    gain_utok: Tensor  # [G, E] on the test episodes


def stationary_deviations(
    market: Market,
    policy: FrozenPolicy,
    prosumers: Sequence[int],
    *,
    selection: tuple[int, Tensor],
    test: tuple[int, Tensor],
    selection_snapshot: object,
    max_lanes: int = MAX_LANES,
    advance: Callable[[], None] = lambda: None,
) -> StationaryDeviations:
    """Coordinate search from the policy's own action and from constant rows, for all prosumers at once.

    Args:
        selection, test: episode number, and the profits `[P, E]` of the policy itself in it.
        selection_snapshot: the policy's state at the start of the selection episode; its present one is that of the
            test episode.
        advance: called after each of `ROUNDS + 1` parts.
    """
    names, device = market.spec.names, market.grid.device
    now = policy.snapshot()
    who = torch.tensor(prosumers, device=device)
    best = unchanged(names, device).expand(who.numel(), -1, -1)

    def gains(deviations: Tensor, episode: int, own: Tensor) -> Tensor:
        """Gain `[G, K, E]` of the deviations `[G, K, size, 3]`."""
        tried = deviations.shape[1]
        deviator = who.repeat_interleave(tried)
        profit = play_deviations(market, policy, episode, deviator, _change(deviations.flatten(0, 1)), max_lanes)
        gain: Tensor = profit.unflatten(0, (-1, tried)) - own[who].unsqueeze(1)
        return gain

    policy.restore(selection_snapshot)
    episode, own = selection
    chosen_gain = torch.zeros_like(own[who])
    for number in range(ROUNDS):
        candidates = torch.stack([neighbours(row, names) for row in best])
        if number == 0:
            rows = constant_rows(names, device)
            candidates = torch.cat((candidates, rows.expand(who.numel(), *rows.shape)), dim=1)
        gain = gains(candidates, episode, own)
        # in integers, and the first on a tie: the one that stays as it was
        choice = gain.sum(dim=-1).argmax(dim=1)
        each = torch.arange(who.numel(), device=device)
        best, chosen_gain = candidates[each, choice], gain[each, choice]
        advance()
    policy.restore(now)
    tested = gains(best.unsqueeze(1), test[0], test[1]).squeeze(1)
    advance()
    return StationaryDeviations(best, [in_words(row, names) for row in best], chosen_gain, tested)


def _change(deviations: Tensor) -> Change:
    def change(copies: Tensor, action: Tensor, observation: Tensor) -> Tensor:
        return apply(deviations[copies].unsqueeze(1), action, hours_of_day(observation))

    return change

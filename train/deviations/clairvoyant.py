"""An adaptive deviation with knowledge of the draws: hour by hour, try every row, look ahead, take the best, go on.

What it earns can be compared with, for one prosumer against fixed others:

* the best response of somebody who knows all draws: never more, since it is one way to play; equal to it (over the rows
  of the grid and the own action) where hours are separable (see best_response.require_separable) and the others'
  actions do not depend on earlier prices;
* the best response of a bidder that sees its own observation only: where hours are separable, so never less; elsewhere
  it may be more or less, since neither knowledge nor search is complete.

With look-ahead to the end of the episode, and otherwise by comparison afterwards, it never earns less than the policy's
own action, episode by episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gridmarl.contracts.two_stage import Phase
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.train.deviations.best_response import take_lanes
from gridmarl.train.deviations.family import apply
from gridmarl.train.deviations.lanes import MAX_LANES, Market, hours_of_day
from gridmarl.train.deviations.policy import FrozenPolicy

BATTERY_LOOKAHEAD_HOURS = 24
SHORTLIST = 8


@dataclass(frozen=True)
class ClairvoyantDeviations:
    """What `G` prosumers gain in each of `E` lanes, and how far they leave their own actions."""

    gain_utok: Tensor  # [G, E] int64, >= 0
    changed: Tensor  # [G, size] float32: share of the choices in which an entry changes
    shift: Tensor  # [G, size] float32: mean change of an entry, over all choices


def clairvoyant_deviations(
    market: Market,
    policy: FrozenPolicy,
    prosumers: Sequence[int],
    episode: int,
    own_utok: Tensor,
    *,
    also: Tensor | None = None,
    lookahead_hours: int | None = None,
    shortlist: int | None = SHORTLIST,
    max_lanes: int = MAX_LANES,
    advance: Callable[[], None] = lambda: None,
) -> ClairvoyantDeviations:
    """Search along the path of each prosumer's own deviation, for all of them at once.

    Args:
        own_utok: `[P, E]`, the profits of the policy itself in this episode.
        also: `[G, size, 3]`, a transform of the own action (see deviation_family) to be tried beside the rows.
        lookahead_hours: hours beyond the present one that a choice is judged by, the policy playing on; None: until
            shifted energy has returned, with a battery a day.
        shortlist: how many rows are looked ahead with: those that earn most in their hour, less what shifted energy
            costs when it returns, plus the battery's charge at the mean import price still to come; None: all.
        advance: called after each step.
    """
    who = torch.tensor(prosumers, device=market.grid.device)
    before = policy.snapshot()
    hours = default_lookahead_hours(market.params) if lookahead_hours is None else lookahead_hours
    search = _Search(market, policy, who, also, hours, shortlist, max_lanes)
    state = market.copies(market.start(episode), who.numel())
    earned = torch.zeros((who.numel(), market.num_lanes), dtype=torch.int64, device=who.device)
    difference = torch.zeros((who.numel(), market.grid.shape[1]), device=who.device)
    moved, choices = torch.zeros_like(difference), 0
    while state.phase is not Phase.CLOSED:
        counted = _entries_of_phase(market, state.phase)
        own, action = search.choose(state)
        state, reward = market.step(state, action)
        earned += market.own(reward.T, who)
        change = (market.own(action, who) - own) * counted
        difference = difference + change.mean(dim=1)
        moved = moved + (change != 0).float().mean(dim=1)
        choices += state.phase is not Phase.RESCHEDULING
        advance()
    policy.restore(before)
    # who gains nothing in an episode keeps to the own actions there
    gain = (earned - own_utok[who]).clamp(min=0)
    return ClairvoyantDeviations(gain, moved / choices, difference / choices)


def default_lookahead_hours(params: TwoStageDRParams) -> int:
    """How far a choice reaches: to the return of what it shifts, at least to those who react to the last price."""
    if params.has_battery:
        return BATTERY_LOOKAHEAD_HOURS
    return max(1, params.shift_deadline_hours if params.has_shifting else 0)


def _entries_of_phase(market: Market, phase: Phase) -> Tensor:
    """`[size]` float32: 1 for the entries of an action that count in a phase."""
    second = phase is Phase.RESCHEDULING
    return torch.tensor(
        [float((name == "reduction") is second) for name in market.spec.names], device=market.grid.device
    )


class _Search:
    """One choice of every deviator at a time; lanes are `G` copies of `E`, copy `g` on the path of deviator `g`."""

    def __init__(
        self,
        market: Market,
        policy: FrozenPolicy,
        who: Tensor,
        also: Tensor | None,
        lookahead_hours: int,
        shortlist: int | None,
        max_lanes: int,
    ) -> None:
        self.market, self.policy, self.who, self.also = market, policy, who, also
        self.lookahead_hours, self.shortlist, self.max_lanes = lookahead_hours, shortlist, max_lanes

    def choose(self, state: State) -> tuple[Tensor, Tensor]:
        """The deviators' own actions `[G, E, size]`, and everybody's `[G * E, P, size]` with the best choice found.

        The policy's state becomes that of the next step.
        """
        market = self.market
        observation = market.observe(state)
        everyone = self.policy.act(observation)
        following = self.policy.snapshot()
        own = market.own(everyone, self.who)
        always = self._always(own, market.own(observation, self.who))
        candidates = torch.cat((always, self._rows(state.phase, own)))
        score = self._judge(state, everyone, candidates, following, hours=0)
        kept, rows = always.shape[0], candidates.shape[0] - always.shape[0]
        short = rows if self.shortlist is None else min(self.shortlist, rows)
        if self.lookahead_hours and state.hour < market.params.horizon_hours - 1:
            picked = score[kept:].topk(short, dim=0).indices + kept
            first = torch.arange(kept, device=picked.device).view(-1, 1, 1).expand(-1, *picked.shape[1:])
            picked = torch.cat((first, picked))
            index = picked.unsqueeze(-1).expand(*picked.shape, candidates.shape[-1])
            candidates = candidates.gather(0, index)
            score = self._judge(state, everyone, candidates, following, self.lookahead_hours)
        choice = score.argmax(dim=0)  # the first on a tie
        index = choice.unsqueeze(-1).expand(*choice.shape, candidates.shape[-1]).unsqueeze(0)
        self.policy.restore(following)
        return own, market.deviate(everyone, self.who, candidates.gather(0, index).squeeze(0))

    def _always(self, own: Tensor, observation: Tensor) -> Tensor:
        """What is looked ahead with in any case: the own action, first, and its transform, `[1 or 2, G, E, size]`."""
        if self.also is None:
            return own.unsqueeze(0)
        return torch.stack((own, apply(self.also.unsqueeze(1), own, hours_of_day(observation))))

    def _rows(self, phase: Phase, own: Tensor) -> Tensor:
        """The own action with the entries of this phase from each row of the grid, `[A, G, E, size]`."""
        counted = _entries_of_phase(self.market, phase)
        rows = torch.unique(self.market.grid * counted, dim=0).reshape(-1, 1, 1, own.shape[-1])
        actions: Tensor = own * (1.0 - counted) + rows
        return actions

    def _judge(self, state: State, everyone: Tensor, candidates: Tensor, following: object, hours: int) -> Tensor:
        """What each candidate earns its deviator to the end of this hour and `hours` more, `[A, G, E]` int64.

        What is carried over to later hours counts, too.
        """
        market, count = self.market, self.who.numel()
        scores = []
        for chunk in market.chunks(candidates.shape[0] * count, self.max_lanes):
            path = chunk % count  # candidate-major: copy k tries candidate k // G on path k % G
            who = self.who[path]
            lanes = (
                path.unsqueeze(1) * market.num_lanes + torch.arange(market.num_lanes, device=path.device)
            ).flatten()
            action = market.deviate(everyone[lanes], who, candidates.flatten(0, 1)[chunk])
            last_hour = state.hour + hours
            now, reward = market.step(take_lanes(state, lanes), action)
            score = market.own(reward.T, who)
            self.policy.restore(following)
            while now.phase is Phase.RESCHEDULING or (now.phase is Phase.BIDDING and now.hour <= last_hour):
                now, reward = market.step(now, self.policy.act(market.observe(now)))
                score = score + market.own(reward.T, who)
            if now.phase is not Phase.CLOSED:
                score = score + market.own(_carried_utok(market, now).T, who)
            scores.append(score)
        score_of_all: Tensor = torch.cat(scores).unflatten(0, (-1, count))
        return score_of_all


def _carried_utok(market: Market, state: State) -> Tensor:
    """Worth of battery charge less what returning energy costs at the import price of its hour, `[P, lanes]` int64."""
    horizon = market.params.horizon_hours
    worth = torch.zeros_like(state.soc_wh)
    if market.params.has_battery:
        price = state.import_price[state.hour :].sum(dim=0) // (horizon - state.hour)
        worth = worth + state.soc_wh * price
    slots = state.backlog.shape[0]
    for hour in range(state.hour, min(state.hour + slots, horizon)):
        worth = worth - state.backlog[hour % slots] * state.import_price[hour]
    return worth

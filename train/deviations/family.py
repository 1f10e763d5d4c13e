"""The family of stationary deviations: what a bidder can resolve before the episode, as transforms of its own action.

A deviation gives each entry `a` in [-1, 1] of the prosumer's own action (see envs/two_stage_dr/actions.py)

    a' = scale * a + offset + clock * c(hour of day), clamped to [-1, 1],

`c` = 1 from 9 to 17 h, -1 from 17 to 23 h, else 0. `scale = 1`, `offset = clock = 0` keeps the entry; `scale = 0` is
the same choice in every hour. Entries of bids count in stage 1 and a reduction in stage 2, so a deviation is by stage.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

KEEP = (1.0, 0.0, 0.0)
Transform = tuple[float, float, float]
"""Scale, offset, clock."""

_SHIFTS: tuple[Transform, ...] = tuple((1.0, offset, 0.0) for offset in (-0.5, -0.2, -0.1, 0.1, 0.2, 0.5))
_SCALES: tuple[Transform, ...] = ((0.5, 0.0, 0.0), (2.0, 0.0, 0.0))
_CONSTANTS: tuple[Transform, ...] = tuple((0.0, offset, 0.0) for offset in (-1.0, -0.75, -0.5, 0.0, 0.5, 0.75, 1.0))
_CLOCKS: tuple[Transform, ...] = tuple((0.0, 0.0, clock) for clock in (-1.0, 0.5, 1.0))
_CORNERS: tuple[Transform, ...] = tuple((0.0, offset, 0.0) for offset in (-1.0, 0.0, 1.0))
_PRICE_CHOICES: tuple[Transform, ...] = (KEEP, *_CORNERS)
_CHOICES: dict[str, tuple[Transform, ...]] = {
    "price": _PRICE_CHOICES,
    "buy_price": _PRICE_CHOICES,
    "quantity": (KEEP, (1.0, -0.2, 0.0), (1.0, 0.2, 0.0), (0.0, -1.0, 0.0), (0.0, 1.0, 0.0)),
    "sell_price": _PRICE_CHOICES,
    "battery": (KEEP, (0.0, -1.0, 0.0), (0.0, 1.0, 0.0)),
    "reduction": (KEEP, (0.0, -1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
}
_MARKET_ENTRIES = ("price", "buy_price", "quantity", "sell_price")


def transforms(entry: str) -> tuple[Transform, ...]:
    """What is tried with one entry of the action; the first keeps it."""
    return (KEEP, *_SHIFTS, *_SCALES, *_CONSTANTS, *(_CLOCKS if entry == "battery" else ()))


def unchanged(names: tuple[str, ...], device: torch.device) -> Tensor:
    """The deviation that changes nothing, `[size, 3]` float32."""
    return torch.tensor([KEEP] * len(names), device=device)


def constant_rows(names: tuple[str, ...], device: torch.device) -> Tensor:
    """Every row of a coarse grid of bids, the same in all hours, `[K, size, 3]`; battery and reduction as they are."""
    choices = [_CORNERS if name in _MARKET_ENTRIES else (KEEP,) for name in names]
    return torch.tensor(list(product(*choices)), device=device)


def neighbours(best: Tensor, names: tuple[str, ...]) -> Tensor:
    """`best` (`[size, 3]`) itself, then with one entry transformed otherwise, `[K, size, 3]`."""
    rows = [best]
    for index, name in enumerate(names):
        for transform in transforms(name):
            row = best.clone()
            row[index] = torch.tensor(transform, device=best.device)
            rows.append(row)
    return torch.stack(rows)


def learner_choices(names: tuple[str, ...], device: torch.device) -> Tensor:
    """What a learner may choose from in each step, `[K, size, 3]`; the first keeps the action."""
    bids = list(product(*(_CHOICES[name] for name in names if name != "reduction")))
    if "reduction" in names:  # chosen in another step than the bid, so the two need not be combined
        bids = [(*bid, _CHOICES["reduction"][row % len(_CHOICES["reduction"])]) for row, bid in enumerate(bids)]
    return torch.tensor(bids, device=device)


def apply(deviation: Tensor, action: Tensor, hour_of_day: Tensor) -> Tensor:
    """Actions `[C, E, size]` after deviations `[C, E, size, 3]` (or `[C, 1, size, 3]`), at the hours `[C, E]`."""
    scale, offset, clock = deviation.unbind(-1)
    day = ((hour_of_day >= 9) & (hour_of_day < 17)).float() - ((hour_of_day >= 17) & (hour_of_day < 23)).float()
    return (scale * action + offset + clock * day.unsqueeze(-1)).clamp(-1.0, 1.0)


# In words -----------------------------------------------------------------------------------------------------------

_RANGES = {
    "price": ("price", "export price", "import price"),
    "buy_price": ("buy price", "export price", "import price"),
    "sell_price": ("sell price", "export price", "import price"),
    "quantity": ("demand ordered", "least", "greatest"),
    "battery": ("battery", "discharge in full", "charge in full"),
    "reduction": ("reduction", "nothing", "all that is possible"),
}


def in_words(deviation: Tensor, names: tuple[str, ...]) -> str:
    """Such as "sell price: always the import price; demand ordered: 10 % of its range more"."""
    kept = torch.tensor(KEEP, device=deviation.device)
    parts = [
        f"{_RANGES[name][0]}: {_change_in_words(name, *(round(float(value), 3) for value in row))}"
        for name, row in zip(names, deviation, strict=True)
        if not torch.equal(row, kept)
    ]
    return "; ".join(parts) or "none found"


def _change_in_words(name: str, scale: float, offset: float, clock: float) -> str:
    _, low, high = _RANGES[name]
    if clock:
        return f"{'+' if clock > 0 else '-'}{abs(clock):.0%} from 9 to 17 h, the reverse from 17 to 23 h"
    if scale == 0.0:
        share = (offset + 1.0) / 2.0
        if share in (0.0, 1.0):
            return f"always {'the ' if name != 'reduction' and name != 'battery' else ''}{high if share else low}"
        return "always idle" if name == "battery" and offset == 0.0 else f"always {share:.0%} of the way to {high}"
    if scale != 1.0:
        return f"{scale:g} times as far from the middle of its range"
    return f"{abs(offset) / 2.0:.0%} of its range {'more' if offset > 0 else 'less'}"


def changes_in_words(changed: Tensor, shift: Tensor, names: tuple[str, ...]) -> str:
    """Such as "buy price -31% of its range (changed in 72%)": how an adaptive deviation differs from the policy.

    Args:
        changed: `[size]`, share of the choices in which an entry changes.
        shift: `[size]`, mean change of an entry over all choices, in units of the action.
    """
    parts = [
        f"{_RANGES[name][0]} {float(mean) / 2.0:+.0%} of its range (changed in {float(share):.0%})"
        for name, share, mean in zip(names, changed, shift, strict=True)
        if share > 0
    ]
    return "; ".join(parts) or "none found"

"""Merit-order clearing of a local book at one price, many lanes at once, in exact integers.

Source: docs/market-rules.md, "Clearing". With `D-(p)` what buyers above `p` want and `S(p)` what sellers up to `p`
offer, `low` is the least price in `[floor, cap]` with `D-(p) <= S(p)`. Adding the offers above `p` to both sides gives

    T(p) = sum of all quantities, buys and sells, with a limit above p  <=  sum of all sells,

one masked sum over one stacked book. `T` only falls at order prices. Two routes find `low`, bit for bit the same:

* `bisection` on integer ticks: one pass over the book per bit of the price range; lanes last, so SIMD and GPU threads
  run over lanes; no sort. Fuses into one kernel under torch.compile.
* `candidates`: `low` is the floor or an order's limit; tests all of them in one broadcast comparison, `[1+2N, 2N, E]`.
  Few operations, so it is the faster one where the cost of launching operations dominates.

At `low` at most one side is rationed, so one pro-rata division serves both sides.

Degenerate cases (each one is a row of the tested table in tests/core/test_clearing_table.py):

| case | price, `uniform` rule | volume |
|---|---|---|
| no supply, some demand | cap: the next unit comes from upstream | 0 |
| no demand, some supply | floor | 0 |
| both sides empty, or all quantities zero | k-point of `[floor, cap]` | 0 |
| no crossing: best bid below best offer | k-point between best bid and best offer | 0 |
| exact equality: supply used up exactly by the bids above `low` | k-point of `[low, high]` | all of it |
| partially filled order | its limit (`low = high`) | up to the short side |
| ties at `low` on one side or on both | the tied limit; the longer side shares pro rata | short side |
| one bid meeting many offers | last offer needed, or k-point up to the bid if the bid is short of it | short side |
| zero quantity at any limit | as if the order were not there | |
| negative prices | same rules; `//` floors towards minus infinity | |
| `floor == cap` | that price; everybody at it shares pro rata | short side |
| bid above cap, offer below floor | counts as at the cap, at the floor | |
| bid below floor, offer above cap | never trades, but its side does not count as empty | |
| `marginal_pair` without a trade | as `uniform` | 0 |
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gridmarl.clearing.apportion import apportion
from gridmarl.clearing.book import Clearing
from gridmarl.errors import ConfigError
from gridmarl.units import MAX_PRICE_UTOK_PER_WH, PERMILLE

PRICE_RULES = ("uniform", "marginal_pair")
ROUTES = ("auto", "bisection", "candidates")
DEFAULT_PRICE_BITS = (2 * MAX_PRICE_UTOK_PER_WH).bit_length()
MAX_PRICE_BITS = 30  # ticks above the floor are held in int32
_BEYOND = 2**30  # added to a price to take it out of a minimum, without leaving int32
CANDIDATES_MAX_CELLS = 100_000  # size of the broadcast comparison up to which it beats bisection when run eagerly


def _least_by_bisection(limit: Tensor, energy: Tensor, supply: Tensor, floor: Tensor, bits: int) -> Tensor:
    """`[E]` least price p in `[floor, floor + 2**bits)` with T(p) <= supply, for `[N, E]` limits and energies.

    int32 ticks above the floor halve the memory that a pass reads, and the sign of a difference is a mask of all ones
    or all zeros: in eager mode twice as fast as int64 compare and multiply. Sums are int64 (torch's rule for `sum`).
    """
    ticks = (limit - floor).clamp(0, (1 << bits) - 1).to(torch.int32)
    energy = energy.to(torch.int32)
    least = torch.zeros_like(floor, dtype=torch.int32)
    for bit in reversed(range(bits)):
        above = ((least + ((1 << bit) - 1) - ticks) >> 31) & energy
        least = least + ((above.sum(0) > supply).to(torch.int32) << bit)
    return floor + least


def _least_by_candidates(limit: Tensor, energy: Tensor, supply: Tensor, floor: Tensor) -> Tensor:
    """`[E]` the same price. Limits outside `[floor, cap]` do no harm as candidates, as T never rises with the price."""
    candidates = torch.cat((floor.unsqueeze(0), limit))
    above = ((limit.unsqueeze(0) > candidates.unsqueeze(1)) * energy.unsqueeze(0)).sum(1)
    return (candidates + (above > supply) * _BEYOND).amin(0).maximum(floor)


def _lowest(price: Tensor, left_out: Tensor) -> Tensor:
    """`[E]` int32 lowest price over the rows of `[N, E]`, some left out; `_BEYOND` or more if all are.

    As int32 because torch's CPU minimum is vectorised for it, and not for int64 (40 times slower).
    """
    return (price + left_out * _BEYOND).to(torch.int32).amin(0)


def _stack(buy: Tensor, sell: Tensor) -> Tensor:
    """`[2, N, E]`, the shorter side filled up with zeros (orders of no quantity)."""
    rows = max(buy.size(0), sell.size(0), 1)
    if buy.size(0) < rows:
        buy = pad(buy, (0, 0, 0, rows - buy.size(0)))
    if sell.size(0) < rows:
        sell = pad(sell, (0, 0, 0, rows - sell.size(0)))
    return torch.stack((buy, sell))


def _least(limit: Tensor, energy: Tensor, supply: Tensor, floor: Tensor, bits: int, route: str) -> Tensor:
    """`[E]` `low`, by the route asked for or, for "auto", by the one that suits the size of the book."""
    orders, lanes = limit.shape
    if route == "auto":
        route = "candidates" if (orders + 1) * orders * lanes <= CANDIDATES_MAX_CELLS else "bisection"
    if route == "candidates":
        return _least_by_candidates(limit, energy, supply, floor)
    return _least_by_bisection(limit, energy, supply, floor, bits)


def _fill(
    energy: Tensor, above: Tensor, at: Tensor, supply: Tensor, start: int | Tensor, counts: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Fills `[N, E]` of both sides, and `[E]` what the sellers up to `low` have left for the buyers at `low`.

    `energy`, `above` and `at` are `[2, N, E]`: all orders, and those above and at `low` with zeros elsewhere.
    """
    spare = supply - above.sum((0, 1))  # S(low) - D-(low)
    buy_at, sell_at = at.unbind(0)
    buy_sum, sell_sum = at.sum(1).unbind(0)
    buyers_share = buy_sum > spare  # else the sellers at low share, or everybody at low is filled
    total = torch.where(buyers_share, spare, sell_sum + buy_sum - spare)
    turn: int | Tensor = start
    if counts[0] != counts[1]:
        turn = torch.where(buyers_share, start % max(counts[0], 1), start % max(counts[1], 1))
    parts = apportion(total, torch.where(buyers_share, buy_at, sell_at), turn)
    buy_fill = above.select(0, 0) + torch.where(buyers_share, parts, buy_at)
    below = energy.select(0, 1) - above.select(0, 1) - sell_at
    return buy_fill, below + torch.where(buyers_share, sell_at, parts), spare


def _check_options(k_permille: int, price_rule: str, price_bits: int, route: str) -> None:
    if not 0 <= k_permille <= PERMILLE:
        raise ConfigError(f"k_permille = {k_permille}: allowed are 0 .. {PERMILLE}")
    if price_rule not in PRICE_RULES:
        raise ConfigError(f"price_rule = {price_rule!r}: allowed are {PRICE_RULES}")
    if not 0 <= price_bits <= MAX_PRICE_BITS:
        raise ConfigError(f"price_bits = {price_bits}: allowed are 0 .. {MAX_PRICE_BITS}")
    if route not in ROUTES:
        raise ConfigError(f"route = {route!r}: allowed are {ROUTES}")


def clear_uniform(
    buy_price: Tensor,
    buy_wh: Tensor,
    sell_price: Tensor,
    sell_wh: Tensor,
    floor: Tensor,
    cap: Tensor,
    start: int | Tensor,
    *,
    k_permille: int = 500,
    price_rule: str = "uniform",
    price_bits: int | None = None,
    route: str = "auto",
) -> Clearing:
    """Clear one book per lane by merit order at one price.

    Args:
        buy_price, buy_wh: `[B, E]` int64, µtok/Wh and Wh. Limits may lie anywhere, see the table above.
        sell_price, sell_wh: `[S, E]` int64.
        floor, cap: `[E]` int64, export and import price, `floor <= cap`.
        start: start of the pro-rata rotation, mod the number of orders of the side; an int >= 0, or int64 `[]`, `[E]`.
        k_permille: where in `[low, high]` the price lies.
        price_rule: "uniform": `low + (k*(high - low))//1000`; "marginal_pair": mean, rounded down, of the lowest bid
            and the highest offer that trade.
        price_bits: smallest b with `cap - floor < 2**b` in all lanes; None for the largest range there can be. Each
            bit is one pass over the book.
        route: "bisection", "candidates", or "auto" (by the size of the book: the result is the same).

    Returns:
        `Clearing`; fills `[B, E]` and `[S, E]`. Nothing is read back from the device and no value is checked: see
        `validate_book` for the bounds that must hold.

    Raises:
        ConfigError: an option out of range or unknown.
    """
    bits = DEFAULT_PRICE_BITS if price_bits is None else price_bits
    _check_options(k_permille, price_rule, bits, route)
    buys, sells = buy_wh.size(0), sell_wh.size(0)
    limit = _stack(torch.minimum(buy_price, cap), torch.maximum(sell_price, floor))
    energy = _stack(buy_wh, sell_wh)
    demand, supply = energy.sum(1).unbind(0)
    low = _least(limit.flatten(0, 1), energy.flatten(0, 1), supply, floor, bits, route)

    above = (limit > low) * energy
    at = (limit == low) * energy
    buy_fill, sell_fill, spare = _fill(energy, above, at, supply, start, (buys, sells))
    volume = buy_fill.sum(0)

    next_above = _lowest(limit.flatten(0, 1), above.flatten(0, 1) == 0)
    high = torch.where(spare == 0, torch.minimum(next_above, cap), low)
    no_demand, no_supply = demand == 0, supply == 0
    k = torch.where(no_demand == no_supply, k_permille, no_supply * PERMILLE)
    price = low + k * (high - low) // PERMILLE
    if price_rule == "marginal_pair":
        last_buy = _lowest(limit.select(0, 0), buy_fill == 0)
        last_sell = -_lowest(-limit.select(0, 1), sell_fill == 0)
        price = torch.where(volume > 0, (last_buy + last_sell) >> 1, price)
    return Clearing(price, buy_fill.narrow(0, 0, buys), sell_fill.narrow(0, 0, sells), volume, low, high)

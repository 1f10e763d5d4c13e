"""The market rules in plain Python integers, one function per paragraph of docs/market-rules.md.

Independent of the tensor code on purpose: no torch, no numpy, nothing from the clearing or the contracts. Energy in Wh,
prices in µtok/Wh, money in µtok.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridmarl.ledger.genesis import Rules


class OnePrice(Protocol):
    """What decides the price where a book clears at several."""

    @property
    def price_rule(self) -> str:
        """uniform or marginal_pair."""
        ...

    @property
    def k_permille(self) -> int:
        """Where between the lowest and the highest of them, under uniform."""
        ...


class Clearing(NamedTuple):
    """Outcome of stage 1."""

    price: int
    volume_wh: int
    shortage_wh: int
    bought_wh: list[int]
    sold_wh: list[int]


def pro_rata(total: int, weights: Sequence[int], start: int) -> list[int]:
    """`total` units over `weights` (sum >= total) by cumulative floors, the order rotated to begin at `start`."""
    mass = sum(weights)
    if total == mass:
        return list(weights)
    count = len(weights)
    parts = [0] * count
    running = given = 0
    for step in range(count):
        index = (start + step) % count
        running += weights[index]
        upto = total * running // mass
        parts[index] = upto - given
        given = upto
    return parts


def _fills(price: Sequence[int], energy: Sequence[int], volume: int, margin: int, sign: int, start: int) -> list[int]:
    """Fills of one side; `sign` +1: higher prices first (buyers), -1: lower prices first (sellers)."""
    filled = [e if (p - margin) * sign > 0 else 0 for p, e in zip(price, energy, strict=True)]
    left = volume - sum(filled)
    if left:
        at_margin = [e if p == margin else 0 for p, e in zip(price, energy, strict=True)]
        filled = [a + b for a, b in zip(filled, pro_rata(left, at_margin, start), strict=True)]
    return filled


def _lowest_clearing(
    low: int, buys: Sequence[tuple[int, int]], sells: Sequence[tuple[int, int]], total_buy: int
) -> tuple[int, int, int, int]:
    """`(lo, D(lo), D-(lo), S(lo))`: excess demand falls only at `low` and at order prices, so only these are tried."""
    steps: dict[int, list[int]] = {low: [0, 0]}
    for side, orders in enumerate((buys, sells)):
        for price, energy in orders:
            steps.setdefault(price, [0, 0])[side] += energy
    at_or_above, supply = total_buy, 0
    for price in sorted(steps):
        bought, offered = steps[price]
        supply += offered
        if at_or_above - bought <= supply:
            return price, at_or_above, at_or_above - bought, supply
        at_or_above -= bought
    raise AssertionError("above the highest order, demand is zero")


def clear(
    rules: OnePrice,
    start: int,
    import_price: int,
    export_price: int,
    buy: tuple[Sequence[int], Sequence[int]],
    sell: tuple[Sequence[int], Sequence[int]],
) -> Clearing:
    """Stage 1; `buy` and `sell` are `(prices, energies)` of the prosumers, prices within `[export, import]`."""
    buys = [(p, e) for p, e in zip(*buy, strict=True) if e]
    sells = [(p, e) for p, e in zip(*sell, strict=True) if e]
    total_buy, total_sell = sum(e for _, e in buys), sum(e for _, e in sells)
    low, demand, above, supply = _lowest_clearing(export_price, buys, sells, total_buy)
    volume = min(demand, supply)
    bought = _fills(*buy, volume, low, 1, start)
    sold = _fills(*sell, volume, low, -1, start)
    high = low
    if above == supply:
        high = min([import_price, *(p for p, _ in buys if p > low), *(p for p, _ in sells if p > low)])
    price = low + rules.k_permille * (high - low) // 1000
    if rules.price_rule == "marginal_pair" and volume:
        last_buy = min(p for p, filled in zip(buy[0], bought, strict=True) if filled)
        last_sell = max(p for p, filled in zip(sell[0], sold, strict=True) if filled)
        price = (last_buy + last_sell) // 2
    if total_buy and not total_sell:
        price = import_price
    if total_sell and not total_buy:
        price = export_price
    return Clearing(price, volume, max(0, total_buy - total_sell), bought, sold)


def response_price(shortage_wh: int, alpha_permille: int, price: int, import_price: int) -> int:
    """Demand-response price, eqs. (2) and (3)."""
    return max(0, min(alpha_permille * price // 1000, import_price)) if shortage_wh else 0


def reduction_price(rules: Rules, price: int, dr_price: int) -> int:
    """What a reduction is paid, rho."""
    return price + dr_price if rules.dr_settlement == "additive" else dr_price


def accept(offered_wh: Sequence[int], shortage_wh: int, start: int) -> list[int]:
    """Accepted reductions: up to the shortage, pro rata."""
    return pro_rata(min(sum(offered_wh), shortage_wh), offered_wh, start)


def upstream_exchange(unfilled_wh: int, unsold_wh: int, needed_wh: int) -> tuple[int, int]:
    """`(M, X)`: unfilled orders as they are, with what is needed after the auction netted at the community's meter."""
    if needed_wh >= 0:
        kept_back = min(needed_wh, unsold_wh)
        return unfilled_wh + needed_wh - kept_back, unsold_wh - kept_back
    spared = min(-needed_wh, unfilled_wh)
    return unfilled_wh - spared, unsold_wh - needed_wh - spared


def shifted(rules: Rules, period: int, accepted_wh: Sequence[int]) -> list[int]:
    """The part of the accepted reductions that returns later."""
    if period == rules.horizon_hours - 1 or rules.shift_deadline_hours == 0:
        return [0] * len(accepted_wh)
    return [rules.shift_share_permille * energy // 1000 for energy in accepted_wh]


def return_hours(import_prices: Sequence[int], deadline: int) -> list[int]:
    """Hour in which energy shifted at `t` returns: the least import price in `t+1 .. t+deadline`, earliest on a tie.

    The window ends with the prices given; hours with an empty window get -1. Linear time (a monotonic queue), so that a
    long deadline cannot stall a verification.
    """
    hours = len(import_prices)
    result = [-1] * hours
    queue: deque[int] = deque()
    end = 1
    for start in range(hours):
        while end < hours and end <= start + deadline:
            while queue and import_prices[queue[-1]] > import_prices[end]:
                queue.pop()
            queue.append(end)
            end += 1
        while queue and queue[0] <= start:
            queue.popleft()
        if queue:
            result[start] = queue[0]
    return result


def open_hours(rules: Rules, import_prices: Sequence[int]) -> list[tuple[int, bool]]:
    """Hours of an unfinished episode whose shifted energy may yet return after the hours known, the latest first.

    With each, whether a future exists in which it does and the open hours before it do not. Later hours have windows
    that reach further and known prices that are no lower, so that if the energy of one hour goes to the future, that of
    all later ones does. A future hour that only the later window reaches tells two hours apart, or else a price
    between their least prices so far.
    """
    known, last, deadline = len(import_prices), rules.horizon_hours - 1, rules.shift_deadline_hours
    least = [import_prices[hour] if hour >= 0 else None for hour in return_hours(import_prices, deadline)]
    result = []
    for hour in range(known - 1, -1, -1):
        end, before = min(hour + deadline, last), min(hour - 1 + deadline, last)
        if end < known:
            break
        price, earlier = least[hour], least[hour - 1] if hour else None
        same = hour > 0 and before == end
        result.append((hour, not same or price is None or earlier is None or earlier < price))
    return result


def battery_limits(rules: Rules, capacity: int, power: int, soc: int) -> tuple[int, int]:
    """Most charge and most discharge in an ordinary hour."""
    room = (capacity - soc) * 1000 // rules.battery_efficiency_permille
    return min(power, room), min(power, soc)


def restoring_action(rules: Rules, initial_soc: int, soc: int) -> tuple[int, int]:
    """`(charge, discharge)` of the last hour, which brings the charge back to that of the start."""
    if soc >= initial_soc:
        return 0, soc - initial_soc
    return -((initial_soc - soc) * -1000 // rules.battery_efficiency_permille), 0


class Finality:
    """Money that is not final yet, from block to block; does nothing where finality is instant."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        # a lag beyond the blocks of a file costs no memory: receipts come block by block
        self._receipts: deque[list[int]] = deque(maxlen=rules.finality_lag_hours)
        self._unfinal: list[int] | None = None  # sums of the receipts, from the first block on

    def spendable(self, prosumer: int, balance: int) -> int:
        """A prosumer's balance less what it received in the last blocks."""
        return balance - (self._unfinal[prosumer] if self._unfinal else 0)

    def book(self, balances: Sequence[int], buy_price: Sequence[int], buy_wh: Sequence[int]) -> Sequence[int]:
        """Demand in the local book: that which spendable money and credit prepay at the limit prices."""
        credit = self._rules.local_credit_utok
        if not self._rules.has_interest or credit is None:
            return buy_wh
        return [
            energy if max(0, price * energy) <= self.spendable(i, balances[i]) + credit else 0
            for i, (price, energy) in enumerate(zip(buy_price, buy_wh, strict=True))
        ]

    def after(
        self, balances: Sequence[int], pairs: Sequence[tuple[int, int]], amounts: Sequence[int]
    ) -> list[tuple[int, int]]:
        """`(principal, interest)` of each prosumer after a block's payments, which are added to what is not final.

        `amounts` are those of the kinds 1..10, `pairs` their payers and payees (and more); a negative amount is
        received by its payer.
        """
        if not self._rules.has_interest:
            return []
        count = self._rules.num_prosumers
        income, change = [0] * count, [0] * count
        for (payer, payee), amount in zip(pairs, amounts, strict=False):
            for account, received in ((payer, -amount), (payee, amount)):
                if account < count:
                    change[account] += received
                    income[account] += max(0, received)
        if self._unfinal is None:
            self._unfinal = [0] * count
        if len(self._receipts) == self._rules.finality_lag_hours and self._receipts:
            self._unfinal = [total - old for total, old in zip(self._unfinal, self._receipts[0], strict=True)]
        if self._rules.finality_lag_hours:
            self._receipts.append(income)
            self._unfinal = [total + new for total, new in zip(self._unfinal, income, strict=True)]
        owed = [max(0, -self.spendable(i, balances[i] + change[i])) for i in range(count)]
        return [(principal, principal * self._rules.credit_interest_ppm // 1_000_000) for principal in owed]

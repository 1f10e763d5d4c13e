"""Input records as a replay sees them: columns, what must hold of them one by one, and the batteries' charge."""

from __future__ import annotations

from struct import Struct, unpack
from typing import TYPE_CHECKING, NamedTuple

from gridmarl.ledger import replay_rules
from gridmarl.ledger.location import INPUTS, LocatedError, Location
from gridmarl.ledger.records import RECORD_WORDS, Kind, first_difference, input_count, input_name

if TYPE_CHECKING:
    from gridmarl.ledger.genesis import Rules

Words = tuple[int, ...]
_METERED = ("demand_wh", "returned_wh", "charge_wh", "discharge_wh", "generation_wh")


class Inputs(NamedTuple):
    """Columns of the input section, `[P]` each; `words` is all of it and `signal` its first record."""

    words: Words
    signal: Words
    buy_price: Words
    buy_wh: Words
    sell_price: Words
    sell_wh: Words
    offered_wh: Words
    demand_wh: Words
    returned_wh: Words
    charge_wh: Words
    discharge_wh: Words
    generation_wh: Words
    load_wh: Words

    @classmethod
    def read(cls, section: bytes, num_prosumers: int) -> Inputs:
        """Columns of a section of `64(1 + 2P)` bytes."""
        words = Struct(f"<{RECORD_WORDS * input_count(num_prosumers)}q").unpack(section)
        meters = RECORD_WORDS * (1 + num_prosumers)
        orders = [words[RECORD_WORDS + word : meters : RECORD_WORDS] for word in range(1, 5)]
        metered = [words[meters + word :: RECORD_WORDS] for word in range(1, 8)]
        return cls(words, words[:RECORD_WORDS], *orders, *metered)

    @property
    def prices(self) -> tuple[int, int, int]:
        """Import price, export price, alpha."""
        return self.signal[1], self.signal[2], self.signal[3]


def bad_input(
    rules: Rules, height: int, record: int, field: str | None, expected: object, seen: object, reason: str
) -> LocatedError:
    """Error of an input record."""
    name = input_name(record, rules.num_prosumers)
    return LocatedError(Location(INPUTS, reason, height, record, name, field, str(expected), str(seen)))


def expected_head(rules: Rules, period: int, record: int) -> int:
    """Word 0 of an input record."""
    if record == 0:
        return Kind.SIGNAL | period << 32
    if record <= rules.num_prosumers:
        return Kind.ORDER | period << 32
    return Kind.METER | (record - 1 - rules.num_prosumers & 0xFFFF) << 16 | period << 32


def check_fixed_words(rules: Rules, height: int, record: int, inputs: Inputs) -> None:
    """Words that say what and whose the record is: word 0, in an ORDER also prosumer, lane and the reserved word."""
    at = RECORD_WORDS * record
    seen = inputs.words[at : at + RECORD_WORDS]
    expected = [expected_head(rules, height % rules.horizon_hours, record), *seen[1:]]
    if 0 < record <= rules.num_prosumers:
        expected[5:] = [record - 1, rules.lane, 0]
    if tuple(expected) != seen:
        field, right, wrong = first_difference(expected, seen)
        raise bad_input(rules, height, record, field, right, wrong, "not the record that belongs here")


def check_signal(rules: Rules, height: int, inputs: Inputs) -> None:
    """What must hold of the SIGNAL before the clearing is replayed."""
    check_fixed_words(rules, height, 0, inputs)
    import_price, export_price, alpha = inputs.prices
    if export_price > import_price:
        reason = "export above import price"
        raise bad_input(rules, height, 0, "export_price", f"<= {import_price}", export_price, reason)
    fixed = rules.alpha_permille
    if alpha < 1000 or (fixed is not None and alpha != fixed):
        allowed = ">= 1000" if fixed is None else fixed
        raise bad_input(rules, height, 0, "alpha_permille", allowed, alpha, "not the rules' factor")


def check_prosumer(rules: Rules, height: int, i: int, inputs: Inputs) -> None:
    """What must hold of the ORDER and the METER of prosumer `i` before the clearing is replayed."""
    order, meter = 1 + i, 1 + rules.num_prosumers + i
    check_fixed_words(rules, height, order, inputs)
    check_fixed_words(rules, height, meter, inputs)
    high, low, _ = inputs.prices
    for name, price in (("buy_price", inputs.buy_price[i]), ("sell_price", inputs.sell_price[i])):
        if not low <= price <= high:
            reason = "outside export .. import price"
            raise bad_input(rules, height, order, name, f"{low} .. {high}", price, reason)
    demand, returned, charge = inputs.demand_wh[i], inputs.returned_wh[i], inputs.charge_wh[i]
    metered = (demand, returned, charge, inputs.discharge_wh[i], inputs.generation_wh[i])
    if min(metered) < 0:
        name, value = next((n, v) for n, v in zip(_METERED, metered, strict=True) if v < 0)
        raise bad_input(rules, height, meter, name, ">= 0", value, "negative energy")
    if inputs.buy_wh[i] != demand + returned + charge:
        expected = demand + returned + charge
        raise bad_input(rules, height, order, "buy_wh", expected, inputs.buy_wh[i], "B must be d + r + c")
    if inputs.sell_wh[i] < inputs.discharge_wh[i]:
        allowed = f">= {inputs.discharge_wh[i]}"
        raise bad_input(rules, height, order, "sell_wh", allowed, inputs.sell_wh[i], "S must be f + x")


def inputs_against_transactions(rules: Rules, height: int, section: bytes, transactions: bytes) -> None:
    """Find a corrupted input record by what authentic transactions say of it.

    Transactions give the three prices, quantities bought, sold and reduced of each prosumer, and its deviation. Limit
    prices and offered reductions cannot be told from them.

    Raises:
        LocatedError: the record, and the field where only one can be wrong.
    """
    inputs, count = Inputs.read(section, rules.num_prosumers), rules.num_prosumers
    for record in range(1 + 2 * count):
        check_fixed_words(rules, height, record, inputs)
    words = unpack(f"<{len(transactions) // 8}q", transactions)
    energies = words[2::RECORD_WORDS]
    bought, sold, unfilled, unsold, accepted, short, surplus = (energies[kind * count :][:count] for kind in range(7))
    price, import_price, export_price = (words[RECORD_WORDS * kind * count + 3] for kind in (0, 2, 3))
    buy = [a + b for a, b in zip(bought, unfilled, strict=True)]
    sell = [a + b for a, b in zip(sold, unsold, strict=True)]
    shortage = max(0, sum(buy) - sum(sell))
    alpha = inputs.prices[2] if rules.alpha_permille is None else rules.alpha_permille
    dr_price = replay_rules.response_price(shortage, alpha, price, import_price)
    signal = (import_price, export_price, alpha, price, dr_price, shortage, sum(bought))
    names = ("import_price", "export_price", "alpha_permille", "price", "dr_price", "shortage_wh", "volume_wh")
    reason = "differs from what the transactions say"
    for name, expected, seen in zip(names, signal, inputs.signal[1:], strict=True):
        if expected != seen and not (name == "dr_price" and rules.alpha_permille is None):
            raise bad_input(rules, height, 0, name, expected, seen, reason)
    for i in range(count):
        meter = 1 + count + i
        derived = (
            (1 + i, "buy_wh", buy[i], inputs.buy_wh[i]),
            (1 + i, "sell_wh", sell[i], inputs.sell_wh[i]),
            (meter, "load_wh", buy[i] - accepted[i], inputs.load_wh[i]),
            (meter, None, buy[i], inputs.demand_wh[i] + inputs.returned_wh[i] + inputs.charge_wh[i]),
            (meter, None, sell[i] - short[i] + surplus[i], inputs.discharge_wh[i] + inputs.generation_wh[i]),
        )
        for record, field, expected, seen in derived:
            if expected != seen:
                raise bad_input(rules, height, record, field, expected, seen, reason)
        for name, limit in (("buy_price", inputs.buy_price[i]), ("sell_price", inputs.sell_price[i])):
            if not export_price <= limit <= import_price:
                allowed = f"{export_price} .. {import_price}"
                raise bad_input(rules, height, 1 + i, name, allowed, limit, "outside export .. import price")


class Batteries:
    """Charge of all batteries during an episode. Without an initial charge in the rules only power is checked."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._capacity = rules.per_prosumer("battery_capacity_wh")
        self._power = rules.per_prosumer("battery_power_w")
        self._known = rules.battery_initial_wh is not None
        self._initial = rules.per_prosumer("battery_initial_wh") if self._known else self._capacity
        self._soc = list(self._initial)

    def restart(self) -> None:
        """Begin a new episode."""
        self._soc = list(self._initial)

    def act(self, height: int, i: int, charge: int, discharge: int) -> None:
        """Check and apply the action of battery `i`.

        Raises:
            LocatedError: charge and discharge at once, beyond power, room or charge, or not restored in the last hour.
        """
        rules, meter = self._rules, 1 + self._rules.num_prosumers + i
        if charge and discharge:
            reason = "charge and discharge in one hour"
            raise bad_input(rules, height, meter, "discharge_wh", 0, discharge, reason)
        last = height % rules.horizon_hours == rules.horizon_hours - 1
        limits = self._limits(i, last)
        for name, limit, seen in zip(("charge_wh", "discharge_wh"), limits, (charge, discharge), strict=True):
            exact = last and self._known
            if seen > limit or (exact and seen != limit):
                reason = "the charge must be restored" if exact else "beyond the battery's power, room or charge"
                raise bad_input(rules, height, meter, name, limit if exact else f"0 .. {limit}", seen, reason)
        if self._known:
            self._soc[i] += charge * rules.battery_efficiency_permille // 1000 - discharge

    def _limits(self, i: int, last: bool) -> tuple[int, int]:
        rules = self._rules
        if self._known and last:
            return replay_rules.restoring_action(rules, self._initial[i], self._soc[i])
        if self._known:
            return replay_rules.battery_limits(rules, self._capacity[i], self._power[i], self._soc[i])
        if last:  # whatever restores an unknown charge: at most the whole capacity, at any power
            return replay_rules.restoring_action(rules, self._capacity[i], 0)[0], self._capacity[i]
        return self._power[i], self._power[i]

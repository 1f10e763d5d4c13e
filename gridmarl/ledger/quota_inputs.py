"""Input records of charging quotas as a replay sees them: columns, and what must hold of them one by one."""

from __future__ import annotations

from struct import Struct, unpack
from typing import TYPE_CHECKING, NamedTuple

from gridmarl.ledger.fields import RECORD_WORDS
from gridmarl.ledger.location import INPUTS, LocatedError, Location
from gridmarl.ledger.quota_records import INPUT_KINDS, QuotaKind, quota_input_count, quota_input_name
from gridmarl.ledger.records import first_difference
from gridmarl.units import MAX_BOOK_WH, MAX_ORDER_WH

if TYPE_CHECKING:
    from gridmarl.ledger.quota_genesis import QuotaRules

Words = tuple[int, ...]


class QuotaInputs(NamedTuple):
    """Columns of the input section, `[N]` each; `words` is all of it and `signal` its first record."""

    words: Words
    signal: Words
    declared_wh: Words
    deposit_utok: Words
    first_quota_wh: Words
    price: Words
    buy_wh: Words
    sell_wh: Words
    used_wh: Words
    final_quota_wh: Words

    @classmethod
    def read(cls, section: bytes, num_stations: int) -> QuotaInputs:
        """Columns of a section of `64(1 + 3N)` bytes."""
        words = Struct(f"<{RECORD_WORDS * quota_input_count(num_stations)}q").unpack(section)
        columns = []
        for kind, fields in enumerate((3, 3, 2)):
            first, end = (RECORD_WORDS * (1 + part * num_stations) for part in (kind, kind + 1))
            columns += [words[first + word : end : RECORD_WORDS] for word in range(1, fields + 1)]
        return cls(words, words[:RECORD_WORDS], *columns)

    @property
    def margin_wh(self) -> int:
        """The margin that was published, and allocated."""
        return self.signal[1]

    @property
    def actual_margin_wh(self) -> int:
        """The margin as it came."""
        return self.signal[2]

    @property
    def tariff(self) -> int:
        """µtok/Wh."""
        return self.signal[3]

    @property
    def granted_wh(self) -> int:
        """Sum of the quotas."""
        return self.signal[4]

    @property
    def volume_wh(self) -> int:
        """Energy traded."""
        return self.signal[6]


def wrong_input(
    rules: QuotaRules, height: int, record: int, field: str | None, expected: object, seen: object, reason: str
) -> LocatedError:
    """Error of an input record."""
    name = quota_input_name(record, rules.num_stations)
    return LocatedError(Location(INPUTS, reason, height, record, name, field, str(expected), str(seen)))


def _check_fixed_words(rules: QuotaRules, height: int, record: int, words: Words) -> None:
    """Words that say what and whose the record is: word 0, station and lane, words that are zero."""
    seen = words[RECORD_WORDS * record : RECORD_WORDS * (record + 1)]
    period = height % rules.horizon_half_hours
    if record == 0:
        expected: Words = (QuotaKind.QUOTA_SIGNAL | period << 32, *seen[1:])
    else:
        section, station = divmod(record - 1, rules.num_stations)
        kind = INPUT_KINDS[section]
        third = 0 if kind is QuotaKind.QUOTA_METER else seen[3]
        expected = (kind | period << 32, *seen[1:3], third, 0, station, rules.lane, 0)
    if expected != seen:
        field, right, wrong = first_difference(expected, seen)
        raise wrong_input(rules, height, record, field, right, wrong, "not the record that belongs here")


def check_records(rules: QuotaRules, height: int, inputs: QuotaInputs) -> None:
    """What must hold of every record before allocation and auction are replayed.

    Raises:
        LocatedError: the first record and field that cannot be.
    """
    count = rules.num_stations
    for record in range(1 + 3 * count):
        _check_fixed_words(rules, height, record, inputs.words)
    _check_signal(rules, height, inputs)
    for i in range(count):
        _check_declaration(rules, height, i, inputs)
        price, floor, cap = inputs.price[i], rules.floor_utok_per_wh, rules.cap_utok_per_wh
        if not floor <= price <= cap:
            reason = "outside floor .. cap"
            raise wrong_input(rules, height, 1 + count + i, "price", f"{floor} .. {cap}", price, reason)
        for part, name, seen in ((1, "buy_wh", inputs.buy_wh[i]), (2, "used_wh", inputs.used_wh[i])):
            if not 0 <= seen <= MAX_ORDER_WH:
                allowed = f"0 .. {MAX_ORDER_WH}"
                raise wrong_input(rules, height, 1 + part * count + i, name, allowed, seen, "out of bounds")
    declared = sum(inputs.declared_wh)
    if declared > MAX_BOOK_WH:
        reason = "declarations exceed the bound of all together"
        raise wrong_input(rules, height, count, "declared_wh", f"<= {MAX_BOOK_WH} in all", declared, reason)


def _check_signal(rules: QuotaRules, height: int, inputs: QuotaInputs) -> None:
    for name, margin in (("margin_wh", inputs.margin_wh), ("actual_margin_wh", inputs.actual_margin_wh)):
        if not -MAX_BOOK_WH <= margin <= MAX_BOOK_WH:
            allowed = f"{-MAX_BOOK_WH} .. {MAX_BOOK_WH}"
            raise wrong_input(rules, height, 0, name, allowed, margin, "out of bounds")
    tariff = rules.tariff_utok_per_wh[height % rules.horizon_half_hours]
    if inputs.tariff != tariff:
        raise wrong_input(rules, height, 0, "tariff", tariff, inputs.tariff, "not the rules' tariff")


def _check_declaration(rules: QuotaRules, height: int, i: int, inputs: QuotaInputs) -> None:
    declared, deposit, budget = inputs.declared_wh[i], inputs.deposit_utok[i], rules.deposit_budget_utok
    if not 0 <= declared <= MAX_ORDER_WH:
        raise wrong_input(rules, height, 1 + i, "declared_wh", f"0 .. {MAX_ORDER_WH}", declared, "out of bounds")
    due = declared * rules.deposit_rate_utok_per_wh
    if deposit != due:
        reason = "not the rate times what is declared"
        raise wrong_input(rules, height, 1 + i, "deposit_utok", due, deposit, reason)
    if budget is not None and deposit > budget:
        raise wrong_input(rules, height, 1 + i, "deposit_utok", f"<= {budget}", deposit, "beyond the budget")


def check_against_transactions(rules: QuotaRules, height: int, section: bytes, transactions: bytes) -> None:
    """Find a corrupted input record by what authentic transactions say of it.

    They give the energies bought, sold, used, over-used and not used, hence both quotas, and the signal but for the
    margins. Orders and declarations are only bounded by them.

    Raises:
        LocatedError: the record, and the field where only one can be wrong.
    """
    inputs, count = QuotaInputs.read(section, rules.num_stations), rules.num_stations
    for record in range(1 + 3 * count):
        _check_fixed_words(rules, height, record, inputs.words)
    words = unpack(f"<{len(transactions) // 8}q", transactions)
    energies, amounts = words[2::RECORD_WORDS], words[4::RECORD_WORDS]
    bought, sold, used, over, unused = (energies[kind * count :][:count] for kind in range(5))
    final = [a - b + c for a, b, c in zip(used, over, unused, strict=True)]
    first = [a - b + c for a, b, c in zip(final, bought, sold, strict=True)]
    _check_signal(rules, height, inputs)
    volume = sum(bought)
    mean_price = sum(amounts[:count]) // max(volume, 1)
    known = (("granted_wh", 4, sum(first)), ("volume_wh", 6, volume), ("price", 7, mean_price))
    reason = "differs from what the transactions say"
    for name, word, expected in known:
        if inputs.signal[word] != expected:
            raise wrong_input(rules, height, 0, name, expected, inputs.signal[word], reason)
    if inputs.signal[5] not in (0, 1):
        raise wrong_input(rules, height, 0, "scarce", "0 or 1", inputs.signal[5], "no truth value")
    for i in range(count):
        exact = (
            (1 + i, "quota_wh", first[i], inputs.first_quota_wh[i]),
            (1 + i, None, inputs.declared_wh[i] * rules.deposit_rate_utok_per_wh, inputs.deposit_utok[i]),
            (1 + 2 * count + i, "used_wh", used[i], inputs.used_wh[i]),
            (1 + 2 * count + i, "quota_wh", final[i], inputs.final_quota_wh[i]),
        )
        for record, field, expected, seen in exact:
            if expected != seen:
                raise wrong_input(rules, height, record, field, expected, seen, reason)
        _check_order_bounds(rules, height, i, inputs, (bought[i], sold[i], first[i]))


def _check_order_bounds(
    rules: QuotaRules, height: int, i: int, inputs: QuotaInputs, known: tuple[int, int, int]
) -> None:
    """Bounds of one station's order, from what it bought, what it sold, and its first quota."""
    bought, sold, quota = known
    bounds = (
        ("price", inputs.price[i], rules.floor_utok_per_wh, rules.cap_utok_per_wh),
        ("buy_wh", inputs.buy_wh[i], bought, 0 if sold else MAX_ORDER_WH),
        ("sell_wh", inputs.sell_wh[i], sold, 0 if bought else quota),
    )
    record = 1 + rules.num_stations + i
    for name, seen, least, most in bounds:
        if not least <= seen <= most:
            reason = "contradicts the transactions"
            raise wrong_input(rules, height, record, name, f"{least} .. {most}", seen, reason)
    if inputs.buy_wh[i] and inputs.sell_wh[i]:
        allowed = f"0 beside sell_wh {inputs.sell_wh[i]}"
        raise wrong_input(rules, height, record, None, allowed, inputs.buy_wh[i], "buys and sells")

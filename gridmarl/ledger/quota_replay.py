"""Replay of charging quotas: all that a block may contain follows again from what was declared, ordered and metered.

Plain Python integers, independent of the tensor code on purpose (see `gridmarl.ledger.quota_replay_rules`). Taken as
given are margins, declarations, orders and meter readings, within their bounds; quotas, scarcity, the auction, final
quotas, all transactions and balances are computed again and compared.
"""

from __future__ import annotations

from functools import cached_property
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from gridmarl.ledger import quota_replay_rules as by_rules
from gridmarl.ledger.fields import RECORD_WORDS
from gridmarl.ledger.location import TRANSACTIONS, LocatedError, Location
from gridmarl.ledger.quota_inputs import QuotaInputs, check_against_transactions, check_records, wrong_input
from gridmarl.ledger.quota_records import DSO_PAYS, STATION_KINDS, QuotaKind, quota_transaction_name
from gridmarl.ledger.records import first_difference

if TYPE_CHECKING:
    from gridmarl.ledger.block import Block
    from gridmarl.ledger.quota_genesis import QuotaRules

Words = tuple[int, ...]
QUOTA_TOTALS = ("declared_wh", "granted_wh", "traded_wh", "used_wh", "overused_wh", "unused_wh", "overload_wh")


class _Flows(NamedTuple):
    """Every transaction of a block, in order: `[5N]` each."""

    energies: list[int]
    prices: list[int]
    amounts: list[int]


class _Layout(NamedTuple):
    """What all blocks of a chain have in common, `[5N]` each; built with the first block (see `Replay`)."""

    words: Struct
    pairs: list[tuple[int, int]]
    kinds: list[int]
    accounts: Words
    lanes: Words
    sequence: Words

    @classmethod
    def of(cls, rules: QuotaRules) -> _Layout:
        """Layout of the transaction section under these rules."""
        count, dso = rules.num_stations, rules.operator_account
        order = [(kind, i) for kind in range(STATION_KINDS) for i in range(count)]
        pairs = [(dso, i) if kind == DSO_PAYS else (i, dso) for kind, i in order]
        return cls(
            words=Struct(f"<{RECORD_WORDS * len(order)}q"),
            pairs=pairs,
            kinds=[QuotaKind.QUOTA_PAYMENT + kind for kind, _ in order],
            accounts=tuple(payer | payee << 32 for payer, payee in pairs),
            lanes=(rules.lane,) * len(order),
            sequence=tuple(range(len(order))),
        )


class QuotaReplay:
    """State of a replay between blocks.

    Attributes:
        balances: `[N+1]`, µtok, after the last block.
        totals: energy by name (`QUOTA_TOTALS`), Wh; overload is what all used beyond the margin as it came.
    """

    def __init__(self, rules: QuotaRules) -> None:
        self.rules = rules
        self.balances = list(rules.initial_balances)
        self.totals = dict.fromkeys(QUOTA_TOTALS, 0)

    @cached_property
    def _layout(self) -> _Layout:
        return _Layout.of(self.rules)

    def apply(self, height: int, inputs: bytes, transactions: bytes) -> None:
        """Check one block and move on to the state after it. Both sections have the length that the rules fix.

        Raises:
            LocatedError: the first record and field that differ from what the rules say.
        """
        columns = QuotaInputs.read(inputs, self.rules.num_stations)
        check_records(self.rules, height, columns)
        trades = self._trade(height, columns)
        final = self._check_meters(height, columns, trades)
        flows = self._flows(columns, trades, final)
        self._compare(height, flows, transactions)
        for (payer, payee), amount in zip(self._layout.pairs, flows.amounts, strict=True):
            self.balances[payer] -= amount
            self.balances[payee] += amount
        self._add_totals(columns, flows)

    def finish(self) -> None:
        """Nothing remains to be checked: every round is complete in its block."""

    def check_inputs(self, height: int, block: Block) -> None:
        """Find a corrupted input record by what authentic transactions say of it.

        Raises:
            LocatedError: the record, and the field where only one can be wrong.
        """
        check_against_transactions(self.rules, height, block.inputs, block.transactions)

    def _trade(self, height: int, columns: QuotaInputs) -> by_rules.Auction:
        """Allocation and auction; checks first quotas, orders, and the signal."""
        rules, count = self.rules, self.rules.num_stations
        start = height % rules.horizon_half_hours % count
        quotas = by_rules.allocate(columns.declared_wh, columns.margin_wh, start)
        for i, (quota, seen) in enumerate(zip(quotas, columns.first_quota_wh, strict=True)):
            if quota != seen:
                reason = "not its share of the margin"
                raise wrong_input(rules, height, 1 + i, "quota_wh", quota, seen, reason)
        granted = sum(quotas)
        scarce = granted < sum(columns.declared_wh)
        for i in range(count):
            self._check_order(height, i, columns, quotas[i], scarce)
        trades = by_rules.auction(rules, columns.price, columns.buy_wh, columns.sell_wh, start)
        volume, paid = sum(trades.bought_wh), sum(trades.paid_utok)
        signal = (*columns.signal[:4], granted, int(scarce), volume, paid // max(volume, 1))
        if signal != columns.signal:
            field, expected, seen = first_difference(signal, columns.signal)
            reason = "differs from allocation and auction"
            raise wrong_input(rules, height, 0, field, expected, seen, reason)
        return trades

    def _check_order(self, height: int, i: int, columns: QuotaInputs, quota: int, scarce: bool) -> None:
        rules, record = self.rules, 1 + self.rules.num_stations + i
        buy, sell = columns.buy_wh[i], columns.sell_wh[i]
        most = quota if scarce else 0
        if not 0 <= sell <= most:
            raise wrong_input(rules, height, record, "sell_wh", f"0 .. {most}", sell, "more than it has to sell")
        if buy and (sell or not scarce):
            reason = "buys and sells" if sell else "nothing is scarce"
            raise wrong_input(rules, height, record, "buy_wh", 0, buy, reason)

    def _check_meters(self, height: int, columns: QuotaInputs, trades: by_rules.Auction) -> list[int]:
        """Final quotas; checks the meter readings."""
        rules = self.rules
        first = zip(columns.first_quota_wh, trades.bought_wh, trades.sold_wh, strict=True)
        final = [quota + bought - sold for quota, bought, sold in first]
        for i, quota in enumerate(final):
            record, seen, used = 1 + 2 * rules.num_stations + i, columns.final_quota_wh[i], columns.used_wh[i]
            if seen != quota:
                reason = "Q must be q + bought - sold"
                raise wrong_input(rules, height, record, "quota_wh", quota, seen, reason)
            if used > quota and not rules.overuse:
                reason = "beyond its quota, which the rules do not allow"
                raise wrong_input(rules, height, record, "used_wh", f"0 .. {quota}", used, reason)
        return final

    def _flows(self, columns: QuotaInputs, trades: by_rules.Auction, final: list[int]) -> _Flows:
        metered = zip(columns.used_wh, final, strict=True)
        charges = [by_rules.charge(self.rules, columns.tariff, used, quota) for used, quota in metered]
        energies = [*trades.bought_wh, *trades.sold_wh, *columns.used_wh]
        energies += [each.overused_wh for each in charges] + [each.unused_wh for each in charges]
        amounts = [*trades.paid_utok, *trades.earned_utok, *(each.fee_utok for each in charges)]
        amounts += [each.penalty_utok for each in charges] + [each.forfeit_utok for each in charges]
        prices = [by_rules.whole_price(*pair) for pair in zip(amounts, energies, strict=True)]
        return _Flows(energies, prices, amounts)

    def _compare(self, height: int, flows: _Flows, transactions: bytes) -> None:
        layout, period = self._layout, height % self.rules.horizon_half_hours
        seen = layout.words.unpack(transactions)
        columns = (
            tuple(kind | period << 32 for kind in layout.kinds),
            layout.accounts,
            tuple(flows.energies),
            tuple(flows.prices),
            tuple(flows.amounts),
            layout.lanes,
            layout.sequence,
            (0,) * len(layout.pairs),
        )
        if all(seen[word::RECORD_WORDS] == column for word, column in enumerate(columns)):
            return
        for record, expected in enumerate(zip(*columns, strict=True)):
            found = seen[RECORD_WORDS * record : RECORD_WORDS * (record + 1)]
            if found != expected:
                name = quota_transaction_name(record, self.rules.num_stations)
                field, right, wrong = first_difference(expected, found)
                reason = "differs from what the rules make of the inputs"
                raise LocatedError(Location(TRANSACTIONS, reason, height, record, name, field, str(right), str(wrong)))

    def _add_totals(self, columns: QuotaInputs, flows: _Flows) -> None:
        count, used = self.rules.num_stations, sum(columns.used_wh)
        over, unused = sum(flows.energies[3 * count : 4 * count]), sum(flows.energies[4 * count :])
        overload = max(used - max(columns.actual_margin_wh, 0), 0)
        values = (sum(columns.declared_wh), columns.granted_wh, columns.volume_wh, used, over, unused, overload)
        for name, value in zip(QUOTA_TOTALS, values, strict=True):
            self.totals[name] += value

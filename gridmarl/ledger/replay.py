"""Replay: everything a block may contain is derived again from its input records, in plain Python integers.

Independent of the tensor code on purpose (see `gridmarl.ledger.replay_rules`). What the inputs decide alone (energies
metered, prices bid) is checked against every identity of docs/market-rules.md; everything else (market price, volume,
shortage, demand-response price, all transactions, balances) is recomputed and compared. Two things private to prosumers
cannot be derived: the utility (so the offered reduction is only bounded by the consumption) and the forecast (taken
from the offer).
"""

from __future__ import annotations

from functools import cached_property
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from gridmarl.ledger import replay_rules
from gridmarl.ledger.location import TRANSACTIONS, LocatedError, Location
from gridmarl.ledger.records import RECORD_WORDS, first_difference, transaction_name
from gridmarl.ledger.replay_inputs import (
    Batteries,
    Inputs,
    Words,
    bad_input,
    check_prosumer,
    check_signal,
    inputs_against_transactions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridmarl.ledger.block import Block
    from gridmarl.ledger.genesis import Rules

# (prosumer pays, counterparty's distance from account P) of kinds 1..8
_FLOWS = ((True, 0), (False, 0), (True, 1), (False, 1), (False, 1), (True, 1), (False, 1), (True, 1))
ENERGY_TOTALS = (
    "generation_wh",
    "discharge_wh",
    "charge_wh",
    "load_wh",
    "local_wh",
    "upstream_import_wh",
    "upstream_export_wh",
    "reduction_wh",
    "returned_wh",
)


class _Flows(NamedTuple):
    """Energy and price of every transaction of a block but interest, in order: `[8P + 2]` each."""

    energies: list[int]
    prices: list[int]

    @property
    def amounts(self) -> list[int]:
        """What the payers pay."""
        return [energy * price for energy, price in zip(self.energies, self.prices, strict=True)]


class _Layout(NamedTuple):
    """What all blocks of a chain have in common: `[8P + 2]` each, with interest `[9P + 2]`.

    Built with the first block, so that the work is in proportion to the file: a genesis alone can claim a million
    prosumers.
    """

    words: Struct
    pairs: list[tuple[int, int]]
    kinds: list[int]
    accounts: Words
    lanes: Words
    sequence: Words

    @classmethod
    def of(cls, rules: Rules) -> _Layout:
        """Layout of the transaction section under these rules."""
        count = rules.num_prosumers
        flows = [(i, count + other) if pays else (count + other, i) for pays, other in _FLOWS for i in range(count)]
        pairs = [*flows, (count + 1, count + 2), (count + 2, count + 1)]
        kinds = [*(kind for kind in range(1, 9) for _ in range(count)), 9, 10]
        if rules.has_interest:
            pairs += [(i, count + 1) for i in range(count)]
            kinds += [11] * count
        return cls(
            words=Struct(f"<{RECORD_WORDS * rules.transactions_per_block}q"),
            pairs=pairs,
            kinds=kinds,
            accounts=tuple(payer | payee << 32 for payer, payee in pairs),
            lanes=(rules.lane,) * len(pairs),
            sequence=tuple(range(len(pairs))),
        )


class Replay:
    """State of a replay between blocks.

    Attributes:
        balances: `[P+3]`, µtok, after the last block.
        totals: energy by name (`ENERGY_TOTALS`), Wh.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.balances = list(rules.initial_balances)
        self.totals = dict.fromkeys(ENERGY_TOTALS, 0)
        self._batteries = Batteries(rules)
        self._finality = replay_rules.Finality(rules)
        self._start_episode(0)

    def _start_episode(self, height: int) -> None:
        self._first_height = height
        self._import_prices: list[int] = []
        self._shifted: list[list[int]] = []
        self._returned: list[Words] = []
        self._batteries.restart()

    @cached_property
    def _layout(self) -> _Layout:
        return _Layout.of(self.rules)

    def apply(self, height: int, inputs: bytes, transactions: bytes) -> None:
        """Check one block and move on to the state after it. Both sections have the length that the rules fix.

        Raises:
            LocatedError: the first record and field that differ from what the rules say. Energy returned after shifting
                is checked when its episode is complete (it depends on later import prices).
        """
        period = height % self.rules.horizon_hours
        columns = Inputs.read(inputs, self.rules.num_prosumers)
        check_signal(self.rules, height, columns)
        for i in range(self.rules.num_prosumers):
            check_prosumer(self.rules, height, i, columns)
            self._batteries.act(height, i, columns.charge_wh[i], columns.discharge_wh[i])
        market, dr_price = self._clear(height, period, columns)
        accepted = self._accept(height, period, columns, market.shortage_wh, dr_price)
        flows = self._flows(columns, market, dr_price, accepted)
        amounts = flows.amounts
        debts = self._finality.after(self.balances, self._layout.pairs, amounts)
        amounts += [interest for _, interest in debts]
        principals = [principal for principal, _ in debts]
        self._compare(height, period, flows, amounts, principals, transactions)
        self._settle(height, amounts)
        self._add_totals(height, columns, flows, market.volume_wh, sum(accepted))
        self._import_prices.append(columns.prices[0])
        self._shifted.append(replay_rules.shifted(self.rules, period, accepted))
        self._returned.append(columns.returned_wh)
        if period == self.rules.horizon_hours - 1:
            self._check_returns(complete=True)
            self._start_episode(height + 1)

    def finish(self) -> None:
        """Check what can be known of an episode that is not complete.

        Raises:
            LocatedError: energy returned that differs from what was shifted.
        """
        self._check_returns(complete=False)

    def check_inputs(self, height: int, block: Block) -> None:
        """Find a corrupted input record by what authentic transactions say of it.

        Raises:
            LocatedError: the record, and the field where only one can be wrong.
        """
        inputs_against_transactions(self.rules, height, block.inputs, block.transactions)

    def _clear(self, height: int, period: int, columns: Inputs) -> tuple[replay_rules.Clearing, int]:
        import_price, export_price, alpha = columns.prices
        book_wh = self._finality.book(self.balances, columns.buy_price, columns.buy_wh)
        buy, sell = (columns.buy_price, book_wh), (columns.sell_price, columns.sell_wh)
        start = period % self.rules.num_prosumers
        shortage = max(0, sum(columns.buy_wh) - sum(columns.sell_wh))
        market = replay_rules.clear(self.rules, start, import_price, export_price, buy, sell)
        market = market._replace(shortage_wh=shortage)  # of all demand, in the book or not
        dr_price = replay_rules.response_price(market.shortage_wh, alpha, market.price, import_price)
        signal = (*columns.signal[:4], market.price, dr_price, market.shortage_wh, market.volume_wh)
        if signal != columns.signal:
            field, expected, seen = first_difference(signal, columns.signal)
            reason = "differs from the clearing of the orders"
            raise bad_input(self.rules, height, 0, field, expected, seen, reason)
        return market, dr_price

    def _accept(self, height: int, period: int, columns: Inputs, shortage: int, dr_price: int) -> list[int]:
        """Accepted reductions; checks offers and metered loads."""
        count = self.rules.num_prosumers
        active = shortage > 0 and dr_price > 0
        for i, (offered, demand) in enumerate(zip(columns.offered_wh, columns.demand_wh, strict=True)):
            limit = demand if active else 0
            if not 0 <= offered <= limit:
                reason = "reduction not possible"
                raise bad_input(self.rules, height, 1 + count + i, "offered_wh", f"0 .. {limit}", offered, reason)
        accepted = replay_rules.accept(columns.offered_wh, shortage, period % count)
        for i, reduction in enumerate(accepted):
            load, seen = columns.buy_wh[i] - reduction, columns.load_wh[i]
            if load != seen:
                reason = "m must be d - a + r + c"
                raise bad_input(self.rules, height, 1 + count + i, "load_wh", load, seen, reason)
        return accepted

    def _flows(self, columns: Inputs, market: replay_rules.Clearing, dr_price: int, accepted: Sequence[int]) -> _Flows:
        import_price, export_price, _ = columns.prices
        unfilled = [b - q for b, q in zip(columns.buy_wh, market.bought_wh, strict=True)]
        unsold = [s - q for s, q in zip(columns.sell_wh, market.sold_wh, strict=True)]
        offers = zip(columns.sell_wh, columns.discharge_wh, columns.generation_wh, strict=True)
        deviation = [sell - discharge - generation for sell, discharge, generation in offers]
        short, surplus = [max(v, 0) for v in deviation], [max(-v, 0) for v in deviation]
        upstream_import, upstream_export = replay_rules.upstream_exchange(
            sum(unfilled), sum(unsold), sum(deviation) - sum(accepted)
        )
        energies = [*market.bought_wh, *market.sold_wh, *unfilled, *unsold, *accepted, *short, *surplus]
        energies += [*(abs(v) for v in deviation), upstream_import, upstream_export]
        reduction_price = replay_rules.reduction_price(self.rules, market.price, dr_price)
        penalty = self.rules.penalty_permille * (abs(market.price) + abs(import_price)) // 2000
        local, outside = (market.price, market.price), (import_price, export_price)
        by_kind = (*local, *outside, reduction_price, *outside, penalty)
        return _Flows(energies, [*(price for price in by_kind for _ in columns.buy_wh), *outside])

    def _compare(
        self,
        height: int,
        period: int,
        flows: _Flows,
        amounts: Sequence[int],
        principals: Sequence[int],
        transactions: bytes,
    ) -> None:
        layout = self._layout
        seen = layout.words.unpack(transactions)
        nothing, reserved = (0,) * len(principals), (0,) * len(flows.energies)
        columns = (
            tuple(kind | period << 32 for kind in layout.kinds),
            layout.accounts,
            (*flows.energies, *nothing),
            (*flows.prices, *nothing),
            tuple(amounts),
            layout.lanes,
            layout.sequence,
            (*reserved, *principals),
        )
        if all(seen[word::RECORD_WORDS] == column for word, column in enumerate(columns)):
            return
        for record, expected in enumerate(zip(*columns, strict=True)):
            found = seen[RECORD_WORDS * record : RECORD_WORDS * (record + 1)]
            if found != expected:
                name = transaction_name(record, self.rules.num_prosumers)
                field, right, wrong = first_difference(expected, found)
                reason = "differs from what the rules make of the inputs"
                raise LocatedError(Location(TRANSACTIONS, reason, height, record, name, field, str(right), str(wrong)))

    def _settle(self, height: int, amounts: Sequence[int]) -> None:
        balances = self.balances
        for (payer, payee), amount in zip(self._layout.pairs, amounts, strict=True):
            balances[payer] -= amount
            balances[payee] += amount
        limit = self.rules.credit_limit_utok
        if limit is not None and min(balances[: self.rules.num_prosumers]) < -limit:
            prosumer = next(i for i, balance in enumerate(balances) if balance < -limit)
            reason, seen = f"prosumer {prosumer} overdraws its account", str(balances[prosumer])
            raise LocatedError(
                Location(TRANSACTIONS, reason, height, field="balance", expected=f">= {-limit}", seen=seen)
            )

    def _add_totals(self, height: int, columns: Inputs, flows: _Flows, local: int, reduction: int) -> None:
        bought, sold = flows.energies[-2:]
        generation, discharge, load = sum(columns.generation_wh), sum(columns.discharge_wh), sum(columns.load_wh)
        if generation + discharge + bought != load + sold:
            raise LocatedError(Location(TRANSACTIONS, "energy does not balance", height))
        charge, returned = sum(columns.charge_wh), sum(columns.returned_wh)
        values = (generation, discharge, charge, load, local, bought, sold, reduction, returned)
        for name, value in zip(ENERGY_TOTALS, values, strict=True):
            self.totals[name] += value

    def _check_returns(self, *, complete: bool) -> None:
        """Energy returned against energy shifted, all hours of the episode so far.

        Energy shifted in an hour returns together. Of an hour whose window of return hours is not known to its end, it
        may return in the hour of least price so far, or after the hours known.
        """
        targets = replay_rules.return_hours(self._import_prices, self.rules.shift_deadline_hours)
        left = [list(returned) for returned in self._returned]  # to be explained; all 0 if the energy returned is right
        for hour, target in enumerate(targets):
            self._explain(left, hour, target, -1)
        wrong = sum(value != 0 for values in left for value in values)
        cuts = () if complete else replay_rules.open_hours(self.rules, self._import_prices)
        undecided = [hour for hour, _ in cuts]
        for hour, possible in cuts if wrong else ():
            wrong += self._explain(left, hour, targets[hour], 1)
            if possible and not wrong:
                return
        if wrong:
            for hour in undecided:
                self._explain(left, hour, targets[hour], -1)
            raise self._wrong_return(left, targets, undecided)

    def _explain(self, left: list[list[int]], hour: int, target: int, sign: int) -> int:
        """Take one hour's shifted energy from what is left to explain (+1: put it back); how many more are wrong."""
        if target < 0:
            return 0
        before = sum(value != 0 for value in left[target])
        left[target] = [value + sign * energy for value, energy in zip(left[target], self._shifted[hour], strict=True)]
        return sum(value != 0 for value in left[target]) - before

    def _wrong_return(self, left: list[list[int]], targets: Sequence[int], undecided: Sequence[int]) -> LocatedError:
        """The first prosumer whose energy returned is out of bounds or, if all are in bounds, not what was shifted."""
        slack = [[0] * self.rules.num_prosumers for _ in left]
        for hour in undecided:
            self._explain(slack, hour, targets[hour], 1)
        cells = [(hour, i) for hour, values in enumerate(left) for i, value in enumerate(values) if value]
        outside = (cell for cell in cells if not -slack[cell[0]][cell[1]] <= left[cell[0]][cell[1]] <= 0)
        hour, i = next(outside, cells[0])
        seen = self._returned[hour][i]
        most = seen - left[hour][i]
        least = most - slack[hour][i]
        allowed = str(least) if least == most else f"{least} .. {most}, all or nothing of each hour shifted"
        record, reason = 1 + self.rules.num_prosumers + i, "not what was shifted to this hour"
        return bad_input(self.rules, self._first_height + hour, record, "returned_wh", allowed, seen, reason)

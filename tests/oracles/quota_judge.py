"""Whether a block of charging quotas is one that the rules allow, by the slow oracle of a round; no code of the replay.

The layout of records (names, words, kinds by number) is the package's.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gridmarl.errors import LedgerError
from gridmarl.ledger.block import Block
from gridmarl.ledger.quota_genesis import QuotaRules
from gridmarl.ledger.records import decode_record
from tests.oracles.ev_quota import Order, Round, Terms, play_round, trade

LARGEST_ORDER, LARGEST_BOOK = 10**8, 3 * 10**9
Record = dict[str, int]


@dataclass(frozen=True)
class Said:
    """What the input records of a block say, station by station."""

    signal: Record
    declared: list[int]
    deposits: list[int]
    quotas: list[int]
    prices: list[int]
    buys: list[int]
    sells: list[int]
    used: list[int]
    finals: list[int]

    @property
    def orders(self) -> list[Order]:
        """One order of each station."""
        pairs = zip(self.prices, self.buys, self.sells, strict=True)
        return [("buy", price, buy) if buy else ("sell", price, sell) for price, buy, sell in pairs]


def lawful(rules: QuotaRules, height: int, block: Block) -> bool:
    """Inputs within the contract's bounds, and everything else as a round of the oracle makes it of them."""
    try:
        inputs, transactions = (
            [decode_record(section[at : at + 64]) for at in range(0, len(section), 64)]
            for section in (block.inputs, block.transactions)
        )
    except LedgerError:  # a kind that is none
        return False
    period = height % rules.horizon_half_hours
    if not in_place(rules, period, inputs):
        return False
    count = rules.num_stations
    names = (("declared_wh", "deposit_utok", "quota_wh"), ("price", "buy_wh", "sell_wh"), ("used_wh", "quota_wh"))
    columns = [
        [each[name] for each in inputs[1 + part * count :][:count]] for part, some in enumerate(names) for name in some
    ]
    said = Said(inputs[0], *columns)
    if not within_bounds(rules, period, said):
        return False
    terms = Terms(
        rules.deposit_rate_utok_per_wh, rules.penalty_rate_utok_per_wh, rules.forfeit_permille,
        rules.floor_utok_per_wh, rules.cap_utok_per_wh, rules.auction,
    )  # fmt: skip
    margin, tariff = said.signal["margin_wh"], said.signal["tariff"]
    done = play_round(terms, period, margin, tariff, said.declared, said.orders, said.used)
    if not allowed(rules, said, done) or not follows(terms, said, done):
        return False
    return transactions == flows(rules, terms, period, said, done)


def in_place(rules: QuotaRules, period: int, inputs: list[Record]) -> bool:
    """Kinds, stations, lanes and zeros as the layout has them."""
    count = rules.num_stations
    kinds = [121, *(kind for kind in (122, 123, 124) for _ in range(count))]
    if [each["kind"] for each in inputs] != kinds:
        return False
    for index, record in enumerate(inputs):
        fixed = {"flags": 0, "period": period}
        if index:
            fixed |= {"station": (index - 1) % count, "lane": rules.lane, "reserved_4": 0, "reserved_7": 0}
        if index > 2 * count:
            fixed |= {"reserved_3": 0}
        if any(record[name] != value for name, value in fixed.items()):
            return False
    return True


def within_bounds(rules: QuotaRules, period: int, said: Said) -> bool:
    """Arguments that the contract takes."""
    bounds = [(wh, 0, LARGEST_ORDER) for wh in (*said.declared, *said.buys, *said.sells, *said.used)]
    bounds += [(price, rules.floor_utok_per_wh, rules.cap_utok_per_wh) for price in said.prices]
    margins = (said.signal["margin_wh"], said.signal["actual_margin_wh"])
    bounds += [(margin, -LARGEST_BOOK, LARGEST_BOOK) for margin in margins]
    one_side = not any(buy and sell for buy, sell in zip(said.buys, said.sells, strict=True))
    in_bounds = all(low <= value <= high for value, low, high in bounds) and sum(said.declared) <= LARGEST_BOOK
    return in_bounds and one_side and said.signal["tariff"] == rules.tariff_utok_per_wh[period]


def allowed(rules: QuotaRules, said: Said, done: Round) -> bool:
    """Orders, deposits and use that fit the quotas."""
    budget = rules.deposit_budget_utok
    return (
        (done.scarce or not any((*said.buys, *said.sells)))
        and all(sell <= quota for sell, quota in zip(said.sells, done.quota_wh, strict=True))
        and (budget is None or all(deposit <= budget for deposit in said.deposits))
        and (rules.overuse or all(wh <= quota for wh, quota in zip(said.used, done.final_wh, strict=True)))
    )


def follows(terms: Terms, said: Said, done: Round) -> bool:
    """Deposits, quotas and totals as the round has them."""
    mean = sum(done.payment_utok) // done.volume_wh if done.volume_wh else 0
    totals = {"granted_wh": sum(done.quota_wh), "scarce": int(done.scarce), "volume_wh": done.volume_wh, "price": mean}
    return (
        said.deposits == [wh * terms.deposit_rate for wh in said.declared]
        and (said.quotas, said.finals) == (done.quota_wh, done.final_wh)
        and all(said.signal[name] == value for name, value in totals.items())
    )


def flows(rules: QuotaRules, terms: Terms, period: int, said: Said, done: Round) -> list[Record]:
    """The transactions of the round."""
    count = rules.num_stations
    nothing = [0] * count
    bought, sold, _, _ = trade(terms, said.orders, period % count) if done.scarce else (nothing, nothing, [], [])
    gaps = [wh - quota for wh, quota in zip(said.used, done.final_wh, strict=True)]
    energies = [*bought, *sold, *said.used, *(max(gap, 0) for gap in gaps), *(max(-gap, 0) for gap in gaps)]
    amounts = [*done.payment_utok, *done.income_utok, *done.fee_utok, *done.penalty_utok, *done.forfeit_utok]
    records = []
    for index, (energy, amount) in enumerate(zip(energies, amounts, strict=True)):
        kind, station = divmod(index, count)
        payer, payee = (count, station) if kind == 1 else (station, count)
        price = Fraction(amount, energy) if energy else Fraction(0)
        records.append({
            "kind": 21 + kind, "flags": 0, "period": period, "payer": payer, "payee": payee, "energy_wh": energy,
            "price_utok_per_wh": int(price) if price.denominator == 1 else 0, "amount_utok": amount,
            "lane": rules.lane, "sequence": index, "reserved": 0,
        })  # fmt: skip
    return records

"""The report of `gridmarl reproduce ch9`: sections of sentences and tables, every number in them computed."""

from __future__ import annotations

from fractions import Fraction

from gridmarl.train.reproduce import ch9_model as model
from gridmarl.train.reproduce import ch9_search as search
from gridmarl.train.reproduce.ch9_cells import (
    FOUND,
    HALF_HOUR,
    ONE_HOUR,
    RULE_NAMES,
    TEXT,
    Cell,
    fee_cells,
    payment_cells,
    plain,
    quota_cells,
)
from gridmarl.train.reproduce.ch9_claim import Limit, best_statements, claim_holds, limits, printed_gains_tok
from gridmarl.train.reproduce.ch9_printed import MARGIN_KW, RATE, STATIONS, SUM_OF_DEMANDS_KW, total
from gridmarl.train.reproduce.ch9_search import rounded
from gridmarl.train.reproduce.document import Grid, Section, markdown

PAIRWISE, FIG_1, K_POINT = (RULE_NAMES[rule] for rule in model.RULES)
CENT = "0.00"


INTRODUCTION = """# Chapter 9, printed and ours

The charging-quota auction of chapter 9 of the book named in the README: eight stations under one transformer, one
period of half an hour. Every printed number is set beside ours, and every difference traced. Ours come from the kernels
of [quota-rules.md](quota-rules.md).

    gridmarl reproduce ch9 [--out DIR]

prints this page as tables. With `--out` it writes `ch9.md` (this page), `ch9_cells.csv` (every cell under every
reading: printed, ours, whether equal, the arithmetic), `ch9.json` (the same, and every assumption that was tried) and
`ch9_auction.png` (bids, offers, pairs).

"""


def page() -> str:
    """docs/ch9.md."""
    return INTRODUCTION + markdown(sections())


def sections() -> list[Section]:
    """The whole report."""
    return [_summary(), _table_2(), _table_3(), _auction(), _fees(), _payments(), _claim(), _open_questions()]


def _by_station(cells: list[Cell], quantity: str, reading: str) -> dict[str, Cell]:
    return {cell.station: cell for cell in cells if cell.quantity == quantity and cell.reading == reading}


def _marked(cell: Cell) -> str:
    """Ours, with an asterisk where it is not what is printed."""
    return cell.ours if cell.equal or not cell.printed else f"{cell.ours} *"


def _reproduced(cells: list[Cell], quantity: str, reading: str) -> str:
    found = _by_station(cells, quantity, reading)
    return f"{sum(cell.equal for name, cell in found.items() if name != 'all')} of {len(STATIONS)}"


def _summary() -> Section:
    payments, fees, quotas = payment_cells(), fee_cells(), quota_cells()
    missing = plain(abs(total([station.payment_tok for station in STATIONS])), 1)
    price = plain(model.price_tok_per_kwh("marginal_pair"))
    best = search.payment_trials()[0]
    return Section(
        "What was found",
        (
            (
                f"Table 2: the quotas follow from a margin of 323 kW ({_reproduced(quotas, 'initial quota', FOUND)} "
                f"cells), not from the {MARGIN_KW} kW of the text ({_reproduced(quotas, 'initial quota', TEXT)}).",
                f"Table 4, service fee: the tariff times the initial quota in kW, taken for kWh "
                f"({_reproduced(fees, 'service fee', ONE_HOUR)} cells). In half an hour a kW is half a kWh, so their "
                "sum is twice what the rule of the text gives, and they leave out what was traded.",
                f"Table 4, auction payment: one price of {price} token/kWh, as Fig. 1 draws it "
                f"({_reproduced(payments, 'auction payment', FIG_1)} cells), not Algorithm 1, which the text states "
                f"({_reproduced(payments, 'auction payment', PAIRWISE)}: the zeros of A and G).",
                f"Two payments are wrong under every rule. Sellers are paid {missing} token more than buyers pay: C is "
                f"paid for its whole order, of which a part is not sold, and B pays for less than it buys. "
                f"{best.cells} of {len(STATIONS)} cells follow if whole orders are paid instead of trades; B's does "
                "not.",
                "The claim holds, once the two cells are right: all stations but A and G gain under Algorithm 1 and "
                "under the price of Fig. 1, the same sum, differently shared, and the quotas after trading add up to "
                "the margin.",
            ),
            "In the tables below an asterisk marks what differs from the printed value.",
        ),
    )


def _table_2() -> Section:
    cells = quota_cells()
    columns = [_by_station(cells, "initial quota", reading) for reading in (FOUND, TEXT)]
    rows = [
        (
            station.name,
            str(station.demand_kw),
            station.quota_kw,
            *(_marked(column[station.name]) for column in columns),
            columns[1][station.name].arithmetic,
        )
        for station in STATIONS
    ]
    sums = [_by_station(cells, "sum of quotas", reading)["all"] for reading in (FOUND, TEXT)]
    rates = [_by_station(cells, "satisfaction rate", reading)["all"] for reading in (FOUND, TEXT)]
    rows.append(("sum", str(SUM_OF_DEMANDS_KW), sums[0].printed, *(cell.ours for cell in sums), ""))
    rows.append(("rate", "", RATE, *(_marked(cell) for cell in rates), rates[1].arithmetic))
    quota_low, quota_high = search.margins_of_quotas()
    fee_low, fee_high = search.margins_of_fees()
    trials = [(trial.assumption, f"{trial.cells} of {len(STATIONS)}") for trial in search.quota_trials()]
    return Section(
        "Table 2: demands and initial quotas (kW)",
        (
            Grid(
                ("", "demand", "printed", "ours,\n323 kW", f"ours,\n{MARGIN_KW} kW", f"arithmetic at {MARGIN_KW} kW"),
                tuple(rows),
            ),
            "The printed sum is that of the printed quotas; each is rounded to 0.01, and the errors add up to "
            f"{plain(total([station.quota_kw for station in STATIONS]) - model.MARGIN_FOUND_KW, 2)} kW. The printed "
            "sum of demands is right.",
            Grid(("margin", "quotas reproduced"), tuple(trials)),
            f"Every margin from {plain(quota_low, 4)} to {plain(quota_high, 4)} kW reproduces all eight quotas. The "
            f"fees of Table 4, which are computed from unrounded quotas, narrow that to {plain(fee_low, 5)} .. "
            f"{plain(fee_high, 5)} kW. The printed rate is this margin's, rounded: "
            f"{plain(model.MARGIN_FOUND_KW / SUM_OF_DEMANDS_KW)}; quotas computed with {RATE} itself would add up to "
            f"{plain(Fraction(RATE) * SUM_OF_DEMANDS_KW)} kW. So {MARGIN_KW} is a misprint of 323, or the allocation "
            f"leaves {MARGIN_KW - model.MARGIN_FOUND_KW} kW unused; the limit holds either way.",
        ),
    )


def _table_3() -> Section:
    quotas = model.quotas_kw(model.MARGIN_FOUND_KW)
    rows, exceeded = [], []
    for station in STATIONS:
        quota, sign = quotas[station.name], 1 if station.side == "buy" else -1
        in_an_hour, in_the_period = quota + sign * station.order, quota + sign * station.order / model.PERIOD_H
        too_much = in_the_period > station.demand_kw
        exceeded += [station.name] if too_much else []
        rows.append(
            (
                station.name,
                station.side,
                station.order_kwh,
                str(station.price_tok_per_kwh),
                str(station.demand_kw),
                rounded(quota, CENT),
                rounded(in_an_hour, CENT),
                rounded(in_the_period, CENT) + (" >" if too_much else ""),
            )
        )
    headings = (
        "", "side", "order\nkWh", "token/\nkWh", "declared\nkW", "quota\nkW", "filled,\nas kW", "filled,\nas kWh"
    )  # fmt: skip
    return Section(
        "Table 3: orders",
        (
            "Table 3 is input: it is printed, not computed, and the auction below uses it as it stands. Its unit can "
            "be checked against Table 2: the quota in kW that a station would have if its order were filled.",
            Grid(headings, tuple(rows), labels=2),
            f"Read as energy within the half hour, every buyer ({', '.join(exceeded)}) would buy more than it "
            "declared (>). Read as power, or as energy over a full hour, all orders fit. So Table 3's kWh are kW of "
            "the period: the same confusion as in the fees, where a quota in kW is charged as kWh.",
        ),
    )


def _auction() -> Section:
    steps, running = [], Fraction(0)
    price = model.price_tok_per_kwh("marginal_pair")
    for pair in model.pairs():
        running += pair.energy_kwh
        paid = pair.energy_kwh * pair.price
        steps.append(
            (
                f"{pair.buyer} from {pair.seller}",
                str(pair.bid),
                str(pair.offer),
                plain(pair.price),
                rounded(pair.energy_kwh, "0.0"),
                rounded(running, "0.0"),
                rounded(paid, CENT),
                rounded(pair.energy_kwh * price, CENT),
            )
        )
    low, high = model.walrasian_tok_per_kwh()
    summed = sum((pair.energy_kwh * pair.price for pair in model.pairs()), Fraction(0))
    steps.append(("sum", "", "", "", "", plain(running, 1), rounded(summed, CENT), rounded(running * price, CENT)))
    headings = ("", "bid", "offer", "mean", "kWh", "total kWh", "pays, Algorithm 1", "pays, Fig. 1")
    left = [
        f"{station.name} {plain(station.order - abs(model.auction('pairwise').bought_kwh[station.name]))}"
        for station in STATIONS
        if station.order > abs(model.auction("pairwise").bought_kwh[station.name])
    ]
    best_bid_left, best_offer_left = _best_left("buy"), _best_left("sell")
    return Section(
        "Fig. 3: the auction (token/kWh, kWh, token)",
        (
            Grid(headings, tuple(steps)),
            f"It ends there: the best bid left is {best_bid_left}, the best offer left {best_offer_left}. Left over: "
            f"{', '.join(left)} kWh. The last bid that trades is {model.pairs()[-1].bid} (B), the last offer "
            f"{model.pairs()[-1].offer} (C), so the price of Fig. 1 is their mean, {plain(price)}.",
            f"Demand meets supply from {plain(low)} to {plain(high)} token/kWh, at one price only: C sells in part, so "
            "its own price is the market's. The k-point rule of the other market here takes that price, in the third "
            f"column below. At {plain(price)} C would like to sell all it has, and cannot.",
        ),
    )


def _best_left(side: str) -> int:
    """Price of the best order that is not used up."""
    traded = model.auction("pairwise").bought_kwh
    left = [
        station.price_tok_per_kwh
        for station in STATIONS
        if station.side == side and station.order > abs(traded[station.name])
    ]
    return max(left) if side == "buy" else min(left)


def _fees() -> Section:
    cells = fee_cells()
    hour, half = (_by_station(cells, "service fee", reading) for reading in (ONE_HOUR, HALF_HOUR))
    energy = model.fees_tok(model.final_energy_kwh("marginal_pair", orders_are_power=False))
    rows = [
        (
            station.name,
            station.fee_tok,
            _marked(hour[station.name]),
            _marked(half[station.name]),
            half[station.name].arithmetic,
            f"{rounded(energy[station.name], CENT)} *",
        )
        for station in STATIONS
    ]
    sums = [_by_station(cells, "sum of fees", reading)["all"] for reading in (ONE_HOUR, HALF_HOUR)]
    summed = rounded(sum(energy.values(), Fraction(0)), CENT)
    rows.append(("sum", sums[0].printed, sums[0].ours, sums[1].ours, "", summed))
    tried = search.fee_trials()
    trials = [(trial.assumption, f"{trial.cells} of {len(STATIONS)}") for trial in tried[:4]]
    return Section(
        "Table 4: service fees (token)",
        (
            Grid(
                ("", "printed", "1 h, initial\nquota", "0.5 h, after\ntrading", "arithmetic", "orders\nas kWh"),
                tuple(rows),
            ),
            f"By the text a station pays the tariff ({model.TARIFF} token/kWh at 18-22 h) for the energy it uses in "
            "18:00-18:30, within its quota after the auction: half an hour, so half as many kWh as kW. The fourth "
            "column is that rule with Table 3 read as kW, for a station that uses its whole quota; the last one with "
            "Table 3 read as kWh within the half hour. Trading moves fees from sellers to buyers; the sum does not "
            "change. The printed fees, each rounded, add up to 0.01 less than they should.",
            Grid((f"tariff x time x power (best 4 of {len(tried)})", "fees reproduced"), tuple(trials)),
        ),
    )


def _payments() -> Section:
    cells = payment_cells()
    columns = [_by_station(cells, "auction payment", name) for name in RULE_NAMES.values()]
    rows = [
        (
            station.name,
            station.payment_tok,
            *(_marked(column[station.name]) for column in columns),
            columns[0][station.name].arithmetic,
            columns[1][station.name].arithmetic,
        )
        for station in STATIONS
    ]
    sums = [_by_station(cells, "sum of payments", name)["all"] for name in RULE_NAMES.values()]
    rows.append(("sum", sums[0].printed, *(_marked(cell) for cell in sums), "", ""))
    headings = (
        "", "printed", "Algo-\nrithm 1", "Fig. 1", "k-point", "arithmetic, Algorithm 1", "arithmetic, Fig. 1"
    )  # fmt: skip
    tried = search.payment_trials()
    trials = [(trial.assumption, f"{trial.cells} of {len(STATIONS)}", trial.stations) for trial in tried[:4]]
    corrections = [
        (each.station, plain(each.payment_tok, 1), plain(each.energy_kwh, 1), each.why_not)
        for each in search.single_corrections()
    ]
    return Section(
        "Table 4: auction payments (token; a minus is an income)",
        (
            Grid(headings, tuple(rows)),
            Grid((f"price x quantity (best 4 of {len(tried)})", "payments reproduced", "stations"), tuple(trials)),
            *_two_wrong_cells(),
            "No single corrected cell would do. For each station, the payment that would balance the column with all "
            "others as printed, the energy it stands for at the same price, and what speaks against it:",
            Grid(("", "token", "kWh", ""), tuple(corrections)),
            "With B and C corrected, the column is the outcome of the auction at the price of Fig. 1, and balances.",
        ),
    )


def _two_wrong_cells() -> tuple[str, ...]:
    price = model.price_tok_per_kwh("marginal_pair")
    fills = model.auction("marginal_pair").bought_kwh
    printed = {station.name: Fraction(station.payment_tok) / price for station in STATIONS}
    bought = sum(value for value in printed.values() if value > 0)
    sold = -sum(value for value in printed.values() if value < 0)
    sources = ", ".join(search.sources_of(printed["B"]))
    return (
        f"At {plain(price)} token/kWh the printed payments stand for {plain(Fraction(bought), 1)} kWh bought and "
        f"{plain(Fraction(sold), 1)} kWh sold; {plain(Fraction(sold - bought), 1)} kWh x {plain(price)} = "
        f"{plain((sold - bought) * price, 1)} token are missing. A rule by which buyers pay sellers cannot have this "
        "outcome, whatever its prices.",
        f"C: 225.4 = {plain(-printed['C'])} x {plain(price)} is its whole order. Only {plain(-fills['C'])} kWh find a "
        f"buyer (0.1 from D, 6.5 from B), which is {plain(-fills['C'] * price)}.",
        f"B: 73.6 = {plain(printed['B'])} x {plain(price)}, but B asks for 6.5 kWh at 24, above the price, and C has "
        f"enough: 6.5 x {plain(price)} = {plain(fills['B'] * price)}. Three quantities of the case are "
        f"{plain(printed['B'])} kWh: {sources}. E's row has the same payment, where it is right.",
    )


def _claim() -> Section:
    columns = [model.gains_tok(rule) for rule in model.RULES]
    printed = printed_gains_tok()
    rows = [
        (
            station.name,
            plain(abs(model.auction("pairwise").bought_kwh[station.name])),
            str(station.price_tok_per_kwh),
            *(rounded(column[station.name], "0.0") for column in columns),
            rounded(printed[station.name], "0.0"),
        )
        for station in STATIONS
    ]
    sums = [sum(column.values(), Fraction(0)) for column in columns]
    rows.append(("sum", "", "", *(rounded(value, "0.0") for value in sums), plain(sum(printed.values(), Fraction(0)))))
    holds = {rule: claim_holds(model.gains_tok(rule)) for rule in model.RULES}
    return Section(
        'The claim: "all stations but A and G gain, and the transformer limit holds"',
        (
            "Gain: own price times energy less payment for a buyer, the reverse for a seller; the price that a station "
            "states is taken for its value.",
            Grid(
                ("", "traded\nkWh", "own\nprice", "Algo-\nrithm 1", "Fig. 1", "k-point", "as\nprinted"),
                tuple(rows),
            ),
            f"All but A and G gain: {_yes(holds['pairwise'])} under Algorithm 1, {_yes(holds['marginal_pair'])} under "
            f"Fig. 1, {_yes(holds['uniform'])} under the k-point, where C sells at its own price. The sum is the same, "
            "since the same energy is traded; it is the most that these orders allow. As printed: each payment with "
            "the energy that it stands for, which nobody could deliver.",
            Grid(("kW", "total", f"limit {MARGIN_KW}", "limit 323"), tuple(_limit_row(each) for each in limits())),
            "The limit holds because quotas are handed on, not made: the sum after trading is the sum before, under "
            f"either rule and either unit. The printed trades would lose {_lost()} kW of quota, which are sold and not "
            "bought. Without allocation the declared demands exceed the margin.",
            _misreports(),
        ),
    )


def _misreports() -> str:
    """What the claim does not say: prices are stated, and another statement may pay more."""
    found = []
    for rule, name in (("pairwise", "Algorithm 1"), ("marginal_pair", "Fig. 1")):
        best = max(best_statements(rule), key=lambda each: each.gain_tok - each.truthful_tok)
        found.append(
            f"under {name} {best.station} at {best.price} instead of {best.own_price} would gain "
            f"{plain(best.gain_tok, 1)} instead of {plain(best.truthful_tok, 1)}"
        )
    return f"To state one's true price is not always best: the others as printed, {', '.join(found)}."


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _limit_row(limit: Limit) -> tuple[str, str, str, str]:
    text = ("holds" if limit.total_kw <= margin else "exceeded" for margin in (MARGIN_KW, model.MARGIN_FOUND_KW))
    return limit.case, plain(limit.total_kw, 2), *text  # type: ignore[return-value]


def _lost() -> str:
    as_printed = next(limit for limit in limits() if "as printed" in limit.case)
    return plain(model.MARGIN_FOUND_KW - as_printed.total_kw, 1)


def _open_questions() -> Section:
    return Section(
        "What remains unexplained",
        (
            (
                f"Why {MARGIN_KW} stands where 323 was used: a misprint of one digit is the simplest reading, and "
                "nothing printed contradicts it; nothing proves it either.",
                "Which of three equal quantities B's payment was computed from.",
                "Why the text states a price per pair and the figures use one price for all. Where Algorithm 1 and "
                "Table 4 disagree, both are offered: the auctions `pairwise` and `marginal_pair`.",
                "Whether Table 3's kWh are meant for an hour. Fees and orders agree in that reading, and it makes the "
                "fees twice too large for a period of half an hour.",
                "Fig. 3 is compared through its numbers, those of Table 3; no other value of it is at hand.",
            ),
        ),
    )

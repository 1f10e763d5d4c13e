"""`gridmarl reproduce ch9`: every claim of the report by arithmetic of its own, from the printed tables and oracles."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from scipy.optimize import linprog

from gridmarl.train.reproduce import ch9_model as model
from gridmarl.train.reproduce import ch9_search as search
from gridmarl.train.reproduce.ch9_cells import HALF_HOUR, ONE_HOUR, RULE_NAMES, Cell, all_cells, plain
from gridmarl.train.reproduce.ch9_claim import best_statements, claim_holds, limits, printed_energy_kwh
from gridmarl.train.reproduce.ch9_printed import BUYERS, SELLERS, STATIONS, TARIFF, tariff_at
from gridmarl.train.reproduce.ch9_report import page, sections
from gridmarl.train.reproduce.document import Grid, Section, markdown, print_sections
from gridmarl.train.tables import TEXT_WIDTH, ResultsConsole
from tests.oracles.clearing import Orders, clear_by_rules
from tests.oracles.pairwise import Walk, walk
from tests.oracles.quota import exact_quotas
from tests.train.command_line import files, gridmarl, strict_json

DEMANDS = {"A": 36, "B": 48, "C": 42, "D": 66, "E": 30, "F": 66, "G": 54, "H": 48}
CAP = 10**6
HALF = Fraction(1, 2)


def orders(stated: dict[str, int] | None = None) -> tuple[Orders, Orders]:
    """Table 3 in µtok/Wh and Wh; `stated`: other prices in token/kWh."""
    prices = {station.name: station.price_tok_per_kwh for station in STATIONS} | (stated or {})
    buys, sells = ([(prices[each.name] * 1000, int(each.order * 1000)) for each in side] for side in (BUYERS, SELLERS))
    return buys, sells


def money(walked: Walk) -> dict[str, Fraction]:
    """Payments in tokens by station."""
    paid = zip(BUYERS, walked.payment_utok, strict=True)
    earned = zip(SELLERS, walked.income_utok, strict=True)
    both = {station.name: Fraction(utok, 10**6) for station, utok in paid}
    return both | {station.name: -Fraction(utok, 10**6) for station, utok in earned}


def as_printed(column: str) -> dict[str, Fraction]:
    return {station.name: Fraction(getattr(station, column)) for station in STATIONS}


# --- Table 2


def test_the_printed_demands_and_their_sum() -> None:
    assert {station.name: station.demand_kw for station in STATIONS} == DEMANDS
    assert sum(DEMANDS.values()) == 390


@pytest.mark.parametrize("margin", [323, 343])
def test_quotas_are_the_exact_shares_to_a_milliwatt(margin: int) -> None:
    ours = model.quotas_kw(Fraction(margin))
    exact = exact_quotas(list(DEMANDS.values()), margin)
    assert sum(ours.values()) == margin
    assert all(abs(kw - share) < Fraction(1, 10**6) for kw, share in zip(ours.values(), exact, strict=True))


def test_only_a_margin_of_323_gives_the_printed_quotas_and_fees() -> None:
    low, high = search.margins_of_quotas()
    assert low < 323 < high
    for margin in (low - Fraction(1, 10**6), high + Fraction(1, 10**6), Fraction(343), Fraction("323.7")):
        shares = zip(exact_quotas(list(DEMANDS.values()), 1), as_printed("quota_kw").values(), strict=True)
        assert any(abs(share * margin - printed) > Fraction(5, 1000) for share, printed in shares)
    low, high = search.margins_of_fees()
    assert low < 323 < high
    assert high - low < Fraction(1, 1000)
    for name, fee in as_printed("fee_tok").items():
        assert abs(112 * Fraction(DEMANDS[name] * 323, 390) - fee) <= Fraction(5, 1000), name
    assert Fraction(323, 390) == pytest.approx(0.8282, abs=5e-5)
    assert Fraction(343, 390) == pytest.approx(0.8795, abs=5e-5)
    assert sum(as_printed("quota_kw").values()) == Fraction("322.99")


# --- Table 3


def test_the_tariff_covers_the_day_once_and_is_112_in_the_case() -> None:
    hours = [hour for begin, end, _ in TARIFF for hour in range(begin, end)]
    assert sorted(hours) == list(range(24))
    assert [tariff_at(hour) for hour in (0, 5, 6, 8, 10, 11, 18, 21, 22)] == [32, 32, 69, 112, 112, 69, 112, 112, 32]


def test_orders_fit_as_power_and_not_as_energy_within_the_half_hour() -> None:
    quotas = model.quotas_kw(Fraction(323))
    for station in BUYERS:
        assert quotas[station.name] + station.order <= station.demand_kw
        assert quotas[station.name] + station.order / HALF > station.demand_kw
    for station in SELLERS:
        assert station.order / HALF < quotas[station.name]


# --- the auction


def test_the_pairs_are_those_of_algorithm_1() -> None:
    walked = walk(*orders(), 0, CAP, 0)
    expected = [(BUYERS[b].name, SELLERS[s].name, Fraction(wh, 1000)) for b, s, wh, _ in walked.pairs]
    assert [(pair.buyer, pair.seller, pair.energy_kwh) for pair in model.pairs()] == expected
    assert [f"{b}{s}" for b, s, _ in expected] == ["EH", "DH", "DF", "DC", "BC"]
    assert model.auction("pairwise").payment_tok == model.in_order(money(walked))


@pytest.mark.parametrize(("rule", "price"), [("marginal_pair", 23), ("uniform", 22)])
def test_the_one_price(rule: str, price: int) -> None:
    cleared = clear_by_rules(*orders(), 0, CAP, 0, price_rule=rule)
    assert cleared.price == price * 1000
    assert (cleared.low, cleared.high) == (22_000, 22_000)
    assert model.price_tok_per_kwh(rule) == price
    assert model.walrasian_tok_per_kwh() == (22, 22)
    fills = dict(zip([each.name for each in BUYERS], cleared.buy_fill_wh, strict=True))
    fills |= dict(zip([each.name for each in SELLERS], [-wh for wh in cleared.sell_fill_wh], strict=True))
    outcome = model.auction(rule)
    assert {name: energy * 1000 for name, energy in outcome.bought_kwh.items()} == fills
    assert outcome.payment_tok == {name: price * energy for name, energy in outcome.bought_kwh.items()}


# --- Table 4


def test_half_an_hour_of_the_final_quota_costs_this_much() -> None:
    traded = {"A": "0", "B": "6.5", "C": "-6.6", "D": "10.9", "E": "3.2", "F": "-7.2", "G": "0", "H": "-6.8"}
    for as_power, factor in ((True, HALF), (False, Fraction(1))):
        fees = model.fees_tok(model.final_energy_kwh("marginal_pair", orders_are_power=as_power))
        for name, demand in DEMANDS.items():
            right = 112 * (HALF * Fraction(demand * 323, 390) + factor * Fraction(traded[name]))
            assert abs(fees[name] - right) < Fraction(1, 1000)
        assert sum(fees.values()) == 112 * 323 * HALF


def test_the_printed_payments_are_those_of_one_price_but_for_two() -> None:
    printed = as_printed("payment_tok")
    assert sum(printed.values()) == Fraction("-149.5")
    right = model.auction("marginal_pair").payment_tok
    assert [name for name in printed if printed[name] != right[name]] == ["B", "C"]
    assert printed["C"] == -23 * Fraction("9.8")
    assert right["C"] == -23 * Fraction("6.6")
    assert printed["B"] == 23 * Fraction("3.2")
    assert right["B"] == 23 * Fraction("6.5") == Fraction("149.5")
    energy = printed_energy_kwh().values()
    assert sum(e for e in energy if e > 0) == Fraction("17.3")
    assert sum(e for e in energy if e < 0) == -Fraction("23.8")
    assert search.sources_of(Fraction("3.2")) == ["the order of A", "the order of E", "what C has left unsold"]


def test_what_each_assumption_reproduces() -> None:
    quota, fee, payment = search.quota_trials(), search.fee_trials(), search.payment_trials()
    assert [(trial.assumption, trial.cells) for trial in quota][:2] == [
        ("margin 323 kW", 8),
        ("margin 343 kW (the text)", 0),
    ]
    assert [trial.assumption for trial in fee if trial.cells == 8] == ["112 token/kWh x 1 h x quota at 323 kW"]
    assert max(trial.cells for trial in fee[1:]) == 2
    found = {trial.assumption: trial.stations for trial in payment}
    assert found["price of Fig. 1 x whole orders, if traded at all"] == "ACDEFGH"
    assert found["price of Fig. 1 x energy traded"] == "ADEFGH"
    assert found["Algorithm 1, pair by pair"] == "AG"
    assert [trial.cells for trial in payment][:4] == [7, 6, 5, 2]


def test_no_single_corrected_payment_is_an_outcome() -> None:
    printed, price = as_printed("payment_tok"), 23
    for each in search.single_corrections():
        assert each.why_not
        assert sum(printed.values()) - printed[each.station] + each.payment_tok == 0
        assert each.energy_kwh * price == each.payment_tok
        assert each.energy_kwh != model.auction("pairwise").bought_kwh[each.station]


@pytest.mark.parametrize(
    ("value", "like", "shown"),
    [
        ("0.125", "0.00", "0.13"),
        ("-0.125", "0.00", "-0.13"),
        ("-0.001", "0.00", "0.00"),
        ("2.5", "0", "3"),
        ("1/3", "0.000", "0.333"),
        ("0", "0.0", "0.0"),
    ],
)
def test_rounding(value: str, like: str, shown: str) -> None:
    assert search.rounded(Fraction(value), like) == shown


def test_a_printed_zero_is_exactly_zero() -> None:
    assert search.reproduces(Fraction(0), "0")
    assert not search.reproduces(Fraction("0.3"), "0")
    assert plain("2.50") == "2.5"
    assert plain("30") == "30"


# --- the cells


def test_every_printed_cell_is_there_and_every_difference_has_its_arithmetic() -> None:
    cells = all_cells()
    for column, quantity, readings in (
        ("quota_kw", "initial quota", 2),
        ("fee_tok", "service fee", 2),
        ("payment_tok", "auction payment", 3),
    ):
        for station in STATIONS:
            shown = [cell for cell in cells if (cell.quantity, cell.station) == (quantity, station.name)]
            assert [cell.printed for cell in shown] == [getattr(station, column)] * readings
    assert all(cell.arithmetic for cell in cells)
    for cell in cells:
        assert cell.equal == (Fraction(cell.printed) == Fraction(cell.ours)), cell


def products(text: str) -> Fraction:
    """`a x b + c x d` and the like, of a cell's arithmetic."""
    words = text.replace("kW", "").replace(" h", "").replace(" x ", "*").split(";")[0]
    cleaned = "".join(words.split())
    assert set(cleaned) <= set("0123456789.*+-/()"), text
    value: Fraction = eval(re.sub(r"[\d.]+", r"Fraction('\g<0>')", cleaned), {"Fraction": Fraction})
    return value


@pytest.mark.parametrize("reading", [ONE_HOUR, HALF_HOUR, *RULE_NAMES.values()])
def test_the_arithmetic_shown_gives_the_number_shown(reading: str) -> None:
    shown = [cell for cell in all_cells() if cell.reading == reading and cell.station != "all"]
    assert len(shown) == len(STATIONS)
    for cell in shown:
        result = Fraction(0) if cell.arithmetic == "no trade" else products(cell.arithmetic)
        assert abs(result - abs(Fraction(cell.ours))) < Fraction(1, 100), cell


# --- the claim


def test_all_but_a_and_g_gain_and_the_sum_is_the_most_there_is() -> None:
    walked = walk(*orders(), 0, CAP, 0)
    for name, gain in model.gains_tok("pairwise").items():
        assert gain == _gain(name, walked.buy_fill_wh, walked.sell_fill_wh, money(walked)[name])
    assert [claim_holds(model.gains_tok(rule)) for rule in model.RULES] == [True, True, False]
    assert {rule: model.gains_tok(rule)["C"] for rule in model.RULES} == {
        "pairwise": Fraction("6.7"),
        "marginal_pair": Fraction("6.6"),
        "uniform": 0,
    }
    value = [each.price_tok_per_kwh * (1 if each.side == "buy" else -1) for each in STATIONS]
    balance = [[1 if each.side == "buy" else -1 for each in STATIONS]]
    best = linprog(
        [-v for v in value],
        A_eq=balance,
        b_eq=[0],
        bounds=[(0, float(each.order)) for each in STATIONS],
        method="highs",
    )
    for rule in model.RULES:
        assert float(sum(model.gains_tok(rule).values())) == pytest.approx(-best.fun)


def test_the_claim_can_fail() -> None:
    gains = model.gains_tok("pairwise")
    assert not claim_holds(gains | {"A": Fraction(1)})
    assert not claim_holds(gains | {"G": Fraction(-1)})
    assert not claim_holds(gains | {"C": Fraction(0)})


def test_the_sum_of_quotas_stays_within_the_margin() -> None:
    totals = {limit.case: limit.total_kw for limit in limits()}
    assert totals.pop("declared demands, no allocation") == 390
    assert totals.pop("after the trades as printed, orders as kW") == 323 - Fraction("6.5")
    assert len(totals) == 5
    assert set(totals.values()) == {323}


def test_the_best_statements_are_found_by_trying_all() -> None:
    for rule, clear in PAYMENTS.items():
        for statement in best_statements(rule):
            tried = {price: clear(statement.station, price) for price in range(41)}
            assert statement.gain_tok == max(tried.values()) == tried[statement.price]
            assert statement.truthful_tok == tried[statement.own_price] == model.gains_tok(rule)[statement.station]
    assert any(each.gain_tok > each.truthful_tok for each in best_statements("pairwise"))


def _pairwise_gain(name: str, price: int) -> Fraction:
    walked = walk(*orders({name: price}), 0, CAP, 0)
    return _gain(name, walked.buy_fill_wh, walked.sell_fill_wh, money(walked)[name])


def _one_price_gain(name: str, price: int) -> Fraction:
    cleared = clear_by_rules(*orders({name: price}), 0, CAP, 0, price_rule="marginal_pair")
    names = [each.name for each in BUYERS] + [each.name for each in SELLERS]
    fills = dict(zip(names, [*cleared.buy_fill_wh, *(-wh for wh in cleared.sell_fill_wh)], strict=True))
    return _gain(name, cleared.buy_fill_wh, cleared.sell_fill_wh, Fraction(fills[name] * cleared.price, 10**6))


def _gain(name: str, bought: list[int], sold: list[int], paid: Fraction) -> Fraction:
    fills = dict(zip([each.name for each in BUYERS], bought, strict=True))
    fills |= dict(zip([each.name for each in SELLERS], [-wh for wh in sold], strict=True))
    own = next(each.price_tok_per_kwh for each in STATIONS if each.name == name)
    return own * Fraction(fills[name], 1000) - paid


PAYMENTS: dict[str, Callable[[str, int], Fraction]] = {"pairwise": _pairwise_gain, "marginal_pair": _one_price_gain}


# --- the command


def test_the_page_in_the_docs_is_current() -> None:
    path = Path(__file__).parents[2] / "docs" / "ch9.md"
    assert path.read_text(encoding="utf-8") == page(), "gridmarl reproduce ch9 --out DIR, then copy DIR/ch9.md"


def test_the_command_prints_every_printed_number_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = gridmarl("reproduce", "ch9")
    assert (outcome.code, outcome.err) == (0, "")
    for station in STATIONS:
        for printed in (station.quota_kw, station.fee_tok, station.payment_tok, station.order_kwh):
            assert printed in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= TEXT_WIDTH
    assert "…" not in outcome.out
    assert not files(tmp_path)


def test_the_files(tmp_path: Path) -> None:
    outcome = gridmarl("reproduce", "ch9", "--out", tmp_path / "new" / "ch9")
    assert (outcome.code, outcome.err) == (0, "")
    folder = tmp_path / "new" / "ch9"
    assert files(folder) == {"ch9.md", "ch9_cells.csv", "ch9.json", "ch9_auction.png"}
    assert (folder / "ch9.md").read_text(encoding="utf-8") == page()
    with (folder / "ch9_cells.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Cell(**{**row, "equal": row["equal"] == "True"}) for row in rows] == all_cells()  # type: ignore[arg-type]
    content = strict_json(folder / "ch9.json")
    assert len(content["cells"]) == len(rows)
    assert content["auctions"]["marginal_pair"]["payment_tok"]["B"] == 149.5
    assert (folder / "ch9_auction.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = gridmarl("reproduce", "ch9", "--out", tmp_path / "file")
    assert outcome.code == 2
    assert "out:" in outcome.err
    assert "is a file, allowed is a folder" in outcome.err
    assert gridmarl("reproduce", "ch8").code == 2


def test_a_section_says_the_same_in_the_terminal_and_in_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    made = [Section("Title [x]", ("Words [red]here.", ("one", "two"), Grid(("", "a\nb"), (("r", "1.5"),))))]
    print_sections(ResultsConsole(width=TEXT_WIDTH), made)
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("Title [x]", "Words [red]here.", "* one\n* two", "1.5"))
    words = ["## Title [x]", "", "Words [red]here.", "", "* one", "* two", ""]
    assert markdown(made).splitlines() == [*words, "|   | a b |", "| --- | ---: |", "| r | 1.5 |"]
    assert len(sections()) == 8

"""`gridmarl report` of runs in EVQuota: the numbers that its runs have, half hours worth looking at, accounts."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gridmarl.envs.ev_quota.render import QuotaHalfHour
from gridmarl.envs.rendering.auction import AuctionBook
from gridmarl.train.quota.report_outcome import balance_cells
from gridmarl.train.quota.report_play import ChosenHalfHour, PlayedDays, choose_half_hours
from gridmarl.train.report import svg
from gridmarl.train.report.play import ASKED_FOR
from tests.train.command_line import gridmarl, strict_json
from tests.train.html_page import LOADING, Page, read_page
from tests.train.test_quota_runs import DQN, HEURISTICS, MARKET, PPO
from tests.train.test_report import refused, written


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dqn` (one seed) and `ppo` (two), for the same stations, and `both`, their comparison."""
    folder = tmp_path_factory.mktemp("runs")
    assert gridmarl(*DQN, "--run-dir", folder / "dqn").code == 0
    assert gridmarl(*PPO, "--seeds", "0", "1", "--run-dir", folder / "ppo").code == 0
    assert gridmarl("compare", folder / "dqn", folder / "ppo", "--run-dir", folder / "both").code == 0
    return folder


@pytest.fixture(scope="module")
def text(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of both runs, as text."""
    return written(tmp_path_factory.mktemp("page") / "page.html", runs / "ppo", runs / "dqn")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return read_page(text)


@pytest.fixture
def not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not about figures: the figures are made, but not turned into SVG."""
    monkeypatch.setattr(svg, "_svg", lambda figure: b"<svg xmlns='http://www.w3.org/2000/svg'/>")


def test_sections_and_nothing_from_elsewhere(text: str, page: Page) -> None:
    assert page.texts("h1") == ["ppo, dqn"]
    assert page.texts("h2") == [
        "Verdict", "Learning", "Transformer load", "Quota auctions of chosen half hours", "Balances", "All results",
        "Ledger", "Learning diagnostics", "How to reproduce", "Settings",
    ]  # fmt: skip
    linked = {item.attributes["href"].removeprefix("#") for item in page.all("a")}
    assert linked <= {item.attributes.get("id") for item in page.all("h2")}
    lead = next(item.text for item in page.all("p") if item.attributes.get("class") == "lead")
    assert "3 charging stations, days of 48 half hours" in lead
    assert "2 held-out days" in lead
    for element in page.elements:
        for name in LOADING & set(element.attributes):
            assert element.attributes[name].startswith(("#", svg_start)), element.tag
    assert not {item.tag for item in page.elements} & {"script", "link", "iframe", "object", "form", "base"}
    assert "://" not in re.sub(r"data:[^\"]*", "", text)
    assert len(text) < 3_000_000


svg_start = "data:image/svg+xml;base64,"


def test_every_figure_is_drawn_for_both_widths_and_told_in_numbers(page: Page, runs: Path) -> None:
    pictures = page.pictures()
    assert len(pictures) == 2 * len(page.all("figure"))
    wide, narrow = ({item.attrib["width"] for item in pictures[start::2]} for start in (1, 0))
    assert (wide, narrow) == ({"676.8pt"}, {"288pt"})
    told = [image.attributes["alt"] for image in page.all("img")]
    levels = strict_json(runs / "ppo" / "summary.json")["levels"]["gains_share"]
    assert f"coordinator 1, truthful {levels['truthful']:.3g}, no trade 0" in told[0]
    summary = strict_json(runs / "both" / "summary.json")
    for name in ("uncoordinated", "truthful", "ppo", "dqn", "coordinator"):
        assert f"{name} {sum(summary['load_kwh'][name]):.1f}, most {max(summary['load_kwh'][name]):.1f}" in told[1]
    assert f"Least margin {min(summary['margin_kwh']):.1f}." in told[1]
    assert all(re.search(r"\d", alt) for alt in told)


def test_the_verdict_and_the_tables_are_those_of_the_comparison(page: Page, runs: Path) -> None:
    summary = strict_json(runs / "both" / "summary.json")
    by_name = {row["name"]: row for row in summary["rows"]}
    table = page.table("Verdict")
    assert [line[0] for line in table[1:]] == [*HEURISTICS, "ppo (2 seeds)", "dqn", "coordinator"]
    for line in table[1:]:
        row = by_name[line[0]]
        assert line[1].split(" ")[0] == f"{100 * row['gains_share']:,.1f}"
        assert line[2] == f"{row['welfare_tok']:,.1f}"
    days = summary["welfare_by_day_tok"]
    gains = [mine - truthful for mine, truthful in zip(days["dqn"], days["truthful"], strict=True)]
    assert table[7][3].startswith(f"{sum(gains) / 2:+,.1f} ± ")
    assert table[7][4] == f"{sum(gain > 0 for gain in gains)} of 2"
    assert [text.split(" ")[0] for text in page.texts("li") if "truthful stations (" in text] == ["ppo", "dqn"]
    energy = page.table("Energy and load")
    assert [line[0] for line in energy[1:]] == [
        *HEURISTICS, "ppo (2 seeds)", "ppo, seed 0", "ppo, seed 1", "dqn", "coordinator",
    ]  # fmt: skip
    assert energy[-2][1] == f"{by_name['dqn']['delivered_kwh']:,.1f}"


def test_accounts_add_up(page: Page) -> None:
    balances = page.table("Change of all accounts")
    assert [line[0] for line in balances[1:]] == ["truthful", "ppo, seed 0", "dqn"]
    for line in balances[1:]:
        stations, least, most, dso = (float(cell.replace(",", "")) for cell in line[1:5])
        assert stations + dso == pytest.approx(0, abs=0.2)
        assert least <= stations / 3 <= most
        assert line[5] == "0 µtok"


def test_ledgers_are_verified_now(page: Page, runs: Path, tmp_path: Path, not_drawn: None) -> None:
    lines = page.table("Ledger files")[1:]
    assert [line[:2] for line in lines] == [
        ["ppo, seed 0", "verified"], ["ppo, seed 1", "verified"], ["dqn", "verified"],
    ]  # fmt: skip
    damaged = tmp_path / "dqn"
    shutil.copytree(runs / "dqn", damaged)
    content = bytearray((damaged / "ledger.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "ledger.bin").write_bytes(content)
    found = read_page(written(tmp_path / "page.html", damaged, "--lanes", "1", code=1))
    assert found.table("Ledger files")[1][1].startswith("NOT VERIFIED: ")


def test_settings_and_the_command_make_the_same_run(page: Page, runs: Path, tmp_path: Path) -> None:
    changed = {line[0]: line[1:] for line in page.table("Changed from the defaults")[1:]}
    assert changed["market: num_stations"] == ["8", "3", "3"]
    words = shlex.split(page.texts("code")[1])
    assert words[:3] == ["gridmarl", "train", "ev-quota"]
    assert words[-2:] == ["--run-dir", "dqn"]
    assert not [word for word in words if word.startswith("action_space")]
    assert gridmarl(*words[1:-1], tmp_path / "again").code == 0
    again, before = (strict_json(folder / "summary.json")["rows"] for folder in (tmp_path / "again", runs / "dqn"))
    assert again == before
    assert page.texts("code")[2] == "gridmarl report ppo dqn"


def test_the_same_folders_give_the_same_bytes(text: str, runs: Path, tmp_path: Path) -> None:
    assert written(tmp_path / "page.html", runs / "ppo", runs / "dqn") == text


def test_half_hours_are_those_asked_for(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    found = read_page(written(tmp_path / "page.html", runs / "dqn", "--lanes", "1", "--hours", "40", "3"))
    assert [text for text in found.texts("h3") if " to " in text] == ["07:30 to 08:00", "02:00 to 02:30"]
    shown = [text for text in found.texts("figcaption") if text.startswith("Shown because --hours asks for it.")]
    assert len(shown) == 2
    assert "The transformer leaves" in shown[0]


def test_a_killed_run_has_the_levels_that_it_would_have_written(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    folder = tmp_path / "ppo"
    shutil.copytree(runs / "ppo", folder)
    (folder / "summary.json").unlink()
    for seed in (0, 1):
        (folder / f"seed-{seed}" / "checkpoint.pt").unlink()
    found = read_page(written(tmp_path / "page.html", folder))
    assert "No policy could be played, so there is no comparison." in found.texts("p")
    assert "ppo has not come to its end: 192, 192 of 192 steps by seed." in found.texts("p")
    levels = strict_json(runs / "ppo" / "summary.json")["levels"]["reward_tok_per_station"]
    told = found.all("img")[0].attributes["alt"]
    assert f"coordinator {levels['optimum']:.3g}, truthful {levels['truthful']:.3g}" in told
    assert found.texts("h2") == [
        "Verdict",
        "Learning",
        "Ledger",
        "Learning diagnostics",
        "How to reproduce",
        "Settings",
    ]


def test_comparisons_alone_and_beside_a_run(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    found = read_page(written(tmp_path / "page.html", runs / "both"))
    summary = strict_json(runs / "both" / "summary.json")
    assert [line[0] for line in found.table("Verdict")[1:]] == [row["name"] for row in summary["rows"]]
    assert found.all("img")[0].attributes["alt"].count(" after 192 steps") == 4
    beside = read_page(written(tmp_path / "beside.html", runs / "dqn", runs / "both"))
    assert beside.texts("h3")[:2] == ["Played for this page", "both"]


def test_a_comparison_that_trains(tmp_path: Path, not_drawn: None) -> None:
    folder = tmp_path / "compared"
    small = ("--lanes", "2", "--train-lanes", "2", "--train-steps", "96", "--exploitability", "off", "--over-use",
             "off")  # fmt: skip
    assert gridmarl("compare", "ev-quota", *MARKET, *small, "--run-dir", folder).code == 0
    found = read_page(written(tmp_path / "page.html", folder))
    assert [line[0] for line in found.table("Verdict")[1:]] == [*HEURISTICS, "deep Q", "coordinator"]
    assert found.texts("code")[0].startswith("gridmarl compare ev-quota --set num_stations=3")


def test_what_is_refused(runs: Path, tmp_path: Path) -> None:
    told = refused(gridmarl("report", runs / "dqn", "--hours", "48"))
    assert "hours: 48, allowed are 0 .. 47" in told
    market = tmp_path / "market"
    train = ("train", "two-stage-dr", "--days", "1", "--set", "num_prosumers=3", "--agent", "truthful", "--steps", "24")
    assert gridmarl(*train, "--lanes", "1", "--eval-lanes", "1", "--run-dir", market).code == 0
    told = refused(gridmarl("report", runs / "dqn", market))
    assert "dqn is of ev-quota, " in told
    assert "market of two-stage-dr; allowed are folders of one environment" in told
    assert not (runs / "dqn" / "report.html").exists()


def half_hour(volume_wh: int, declared_wh: int) -> QuotaHalfHour:
    one, none = np.array([volume_wh, 0]), np.zeros(2, dtype=np.int64)
    book = AuctionBook(none, one, one, none, none, one)
    return QuotaHalfHour(0, 1_000, 1_000, 0, 5, True, book, np.array([declared_wh, 0]), none, none, none, none)


def view(name: str, *half_hours: QuotaHalfHour) -> PlayedDays:
    return PlayedDays(name, None, half_hours, np.array([[-5, -6], [2, 3], [3, 3]]))


def test_half_hours_worth_looking_at() -> None:
    truthful = view("truthful", half_hour(0, 900), half_hour(40, 1_200), half_hour(20, 1_300))
    learned = view("ppo", half_hour(0, 900), half_hour(10, 4_000), half_hour(70, 1_100))
    assert choose_half_hours([truthful, learned], 12) == [
        ChosenHalfHour(
            1, 12, ("truthful trades most in it, 0.04 kWh", "ppo declares most beyond the margin, 3.00 kWh")
        ),
        ChosenHalfHour(2, 12, ("ppo trades most in it, 0.07 kWh",)),
    ]
    idle = view("ppo", half_hour(0, 900), half_hour(0, 900), half_hour(0, 1_000))
    assert choose_half_hours([idle, idle], 12) == []
    assert choose_half_hours([idle, idle], 12, (2, 0, 2)) == [
        ChosenHalfHour(0, 12, (ASKED_FOR,)),
        ChosenHalfHour(2, 12, (ASKED_FOR,)),
    ]
    assert ChosenHalfHour(35, 12, ()).name == "23:30 to 00:00"


def test_money_that_was_made_shows_as_a_residual() -> None:
    kept = view("x")
    made = replace(kept, change_utok=kept.change_utok + np.array([[0, 7], [0, 0], [0, 0]]), seed=3)
    assert (kept.residual_utok, made.residual_utok) == (0, 7)
    assert [line[0] for line in balance_cells([kept, made]).lines] == ["x", "x, seed 3"]
    assert [line[-1] for line in balance_cells([kept, made]).lines] == ["0 µtok", "7 µtok"]

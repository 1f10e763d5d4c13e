"""`gridmarl report`: one well-formed page without anything from elsewhere, with the numbers that its runs have."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from gridmarl.ledger import verify
from gridmarl.train.report import svg
from tests.train.command_line import COMPARE, TRAIN, Outcome, gridmarl, strict_json
from tests.train.html_page import LOADING, Page, read_page

PPO = ("train", "two-stage-dr", "--days", "1", "--set", "num_prosumers=3", "--agent", "ppo", "--steps", "240",
       "--lanes", "4", "--eval-lanes", "2", "--eval-every", "96", "--agent-set", "hidden=[8]", "rollout_steps=12",
       "--seeds", "0", "1", "--workers", "1")  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ppo` (two seeds) and `dqn` (one), for the same market."""
    folder = tmp_path_factory.mktemp("runs")
    assert gridmarl(*PPO, "--run-dir", folder / "ppo").code == 0
    assert gridmarl(*TRAIN, "--run-dir", folder / "dqn").code == 0
    return folder


@pytest.fixture(scope="module")
def text(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of `ppo`, as text."""
    return written(tmp_path_factory.mktemp("page") / "page.html", runs / "ppo")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return read_page(text)


@pytest.fixture
def not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not about figures: the figures are made, but not turned into SVG."""
    monkeypatch.setattr(svg, "_svg", lambda figure: b"<svg xmlns='http://www.w3.org/2000/svg'/>")


def written(path: Path, *arguments: object, code: int = 0) -> str:
    outcome = gridmarl("report", *arguments, "--out", path)
    assert (outcome.code, outcome.err) == (code, "")
    assert outcome.out.splitlines()[-1] == f"{path}: {path.stat().st_size:,} bytes"
    return path.read_text(encoding="utf-8")


def copy_of(run: Path, folder: Path, **summary: Any) -> Path:
    """A run under another name, with changes to its summary.json."""
    shutil.copytree(run, folder)
    path = folder / "summary.json"
    path.write_text(json.dumps(strict_json(path) | summary))
    return folder


def test_the_page_is_well_formed_and_says_what_it_is(page: Page) -> None:
    (html,) = page.all("html")
    assert html.attributes["lang"] == "en"
    assert page.texts("title") == ["ppo: gridmarl report"]
    assert page.texts("h1") == ["ppo"]
    levels = [int(item.tag[1]) for item in page.elements if re.fullmatch("h[1-6]", item.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    linked = {item.attributes["href"].removeprefix("#") for item in page.all("a")}
    assert linked <= {item.attributes.get("id") for item in page.all("h2")}
    assert all(item.attributes["scope"] in ("row", "col") for item in page.all("th"))
    lead = next(item.text for item in page.all("p") if item.attributes.get("class") == "lead")
    assert "3 prosumers, episodes of 24 hours" in lead
    assert "2 held-out episodes" in lead


def test_nothing_comes_from_elsewhere(text: str, page: Page) -> None:
    for element in page.elements:
        for name in LOADING & set(element.attributes):
            assert element.attributes[name].startswith(("#", "data:image/svg+xml;base64,")), element.tag
    assert not {item.tag for item in page.elements} & {"script", "link", "iframe", "object", "form", "base"}
    (style,) = page.all("style")
    assert not re.search(r"url\(|@import|@font-face", style.text)
    outside = re.sub(r"data:[^\"]*", "", text)
    assert "://" not in outside.replace("http-equiv", "")
    policy = next(item.attributes["content"] for item in page.all("meta") if "http-equiv" in item.attributes)
    assert policy.startswith("default-src 'none';")
    assert len(text) < 3_000_000


def test_every_figure_is_drawn_for_both_widths_and_told_in_numbers(page: Page) -> None:
    pictures = page.pictures()
    assert len(pictures) == 2 * len(page.all("figure"))
    wide, narrow = ({item.attrib["width"] for item in pictures[start::2]} for start in (1, 0))
    assert wide == {"676.8pt"}
    assert narrow == {"288pt"}
    assert all(item.attrib["width"] and len(list(item.iter())) > 50 for item in pictures)
    for image in page.all("img"):
        assert re.search(r"\d", image.attributes["alt"]), image.attributes["alt"]
    assert len(page.texts("figcaption")) == len(page.all("figure"))
    learning = page.all("img")[0].attributes["alt"]
    assert re.search(
        r"share of the gains from trade: ppo -?[\d.]+ ± [\d.]+ after 192 steps, optimum 1, truthful", learning
    )


def test_the_verdict_is_that_of_the_run(page: Page, runs: Path) -> None:
    summary = strict_json(runs / "ppo" / "summary.json")
    table = page.table("Verdict")
    assert [line[0] for line in table[1:]] == ["no market", "truthful", "ppo (2 seeds)", "aggregator"]
    for line, row in zip(table[1:], summary["rows"], strict=True):
        assert line[1].split(" ")[0] == f"{100 * row['gains_share']:,.1f}".replace("-0.0", "0.0")
        assert line[2] == f"{row['welfare_tok']:,.1f}"
    gains = [
        mine - truthful
        for mine, truthful in zip(*(summary["rows"][index]["welfare_by_lane_tok"] for index in (2, 1)), strict=True)
    ]
    assert table[3][3].startswith(f"{sum(gains) / 2:+,.1f} ± ")
    assert table[3][4] == f"{sum(gain > 0 for gain in gains)} of 2"
    assert len([text for text in page.texts("li") if text.startswith("ppo (2 seeds)")]) == 1


def test_sections_and_tables(page: Page) -> None:
    assert page.texts("h2") == [
        "Verdict", "Learning", "Price against billing cost", "Loads before and after stage 2",
        "Market curves of chosen hours", "Balances", "All results", "Ledger", "Learning diagnostics",
        "How to reproduce", "Settings",
    ]  # fmt: skip
    operator = page.table("Operator's account")
    assert operator[0] == ["", "truthful", "ppo (2 seeds)"]
    assert operator[-1][0] == "balance"
    balances = page.table("Change of all accounts")
    assert [line[-1] for line in balances[1:]] == ["0 µtok", "0 µtok"]
    for line in balances[1:]:
        assert sum(float(cell.replace(",", "")) for cell in line[1:-1]) == pytest.approx(0, abs=0.2)
    assert page.table("ppo by seed")[0][2] == "efficiency"
    changed = {line[0]: line[1:] for line in page.table("Changed from the defaults")[1:]}
    assert changed["market: num_prosumers"] == ["10", "3"]
    assert changed["ppo: hidden"] == ["–", "8"]
    assert "market: k_permille" in {line[0] for line in page.table("As the defaults")}


def test_ledgers_are_verified_now(page: Page, runs: Path, tmp_path: Path, not_drawn: None) -> None:
    lines = page.table("Ledger files")[1:]
    for seed, line in enumerate(lines):
        verdict = verify(runs / "ppo" / f"seed-{seed}" / "ledger.bin")
        assert line[:4] == [f"ppo, seed {seed}", "verified", str(verdict.blocks), str(verdict.transactions)]
        assert line[5] == verdict.head
    assert len(lines) == 2
    damaged = tmp_path / "dqn"
    shutil.copytree(runs / "dqn", damaged)
    content = bytearray((damaged / "ledger.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "ledger.bin").write_bytes(content)
    found = read_page(written(tmp_path / "page.html", damaged, "--lanes", "1", code=1))
    assert found.table("Ledger files")[1][1].startswith("NOT VERIFIED: ")


def test_the_same_folders_give_the_same_bytes(text: str, runs: Path, tmp_path: Path) -> None:
    assert written(tmp_path / "page.html", runs / "ppo") == text


def test_names_are_text_and_not_markup(runs: Path, tmp_path: Path) -> None:
    name = "<script>alert('$\\nonsense$ & \"y\"')"
    folder = tmp_path / name
    shutil.copytree(runs / "dqn", folder)
    found = read_page(written(tmp_path / "page.html", folder, "--lanes", "1", "--hours", "3"))
    assert found.texts("h1") == [name]
    assert not found.all("script")
    assert any(name in item.attributes["alt"] for item in found.all("img"))
    assert found.table("Verdict")[3][0] == name
    found.pictures()


def test_hours_are_those_asked_for(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    found = read_page(written(tmp_path / "page.html", runs / "dqn", "--lanes", "1", "--hours", "13", "3"))
    assert [text for text in found.texts("h3") if text.startswith("Day")] == [
        "Day 1, 03:00 to 04:00",
        "Day 1, 13:00 to 14:00",
    ]
    assert found.texts("figcaption").count("Shown because --hours asks for it.") == 2


def test_an_interrupted_run_is_shown_as_far_as_it_came(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    folder = copy_of(runs / "dqn", tmp_path / "dqn", interrupted=True, rows=[])
    (folder / "ledger.bin").unlink()
    found = read_page(written(tmp_path / "page.html", folder))
    assert "dqn was interrupted: 240 of 240 steps." in found.texts("p")
    assert found.table("Verdict")[3][0] == "dqn"
    assert "No ledger: dqn." in found.texts("p")


def test_a_killed_run_without_a_policy_gives_its_curves(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    folder = tmp_path / "ppo"
    shutil.copytree(runs / "ppo", folder)
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "seed-1")
    (folder / "seed-0" / "checkpoint.pt").unlink()
    found = read_page(written(tmp_path / "page.html", folder))
    told = found.texts("p")
    assert "ppo: nothing of seed 1 was found; it had not begun." in told
    assert "ppo has not come to its end: 240 of 240 steps." in told
    assert "ppo: no checkpoint yet of seed 0, so no policy that could play." in told
    assert "No policy could be played, so there is no comparison." in told
    levels = strict_json(runs / "ppo" / "summary.json")["levels"]["gains_share"]
    assert f"optimum 1, truthful {levels['truthful']:.3g}, no market 0" in found.all("img")[0].attributes["alt"]
    assert found.texts("h2") == [
        "Verdict",
        "Learning",
        "Ledger",
        "Learning diagnostics",
        "How to reproduce",
        "Settings",
    ]


def test_a_comparison_of_runs_and_the_runs_beside_it(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    folder = tmp_path / "both"
    assert gridmarl("compare", runs / "dqn", runs / "ppo", "--lanes", "2", "--run-dir", folder).code == 0
    found = read_page(written(tmp_path / "page.html", folder))
    summary = strict_json(folder / "summary.json")
    assert [line[0] for line in found.table("Verdict")[1:]] == [row["name"] for row in summary["rows"]]
    assert "Market curves of chosen hours" not in found.texts("h2")
    assert found.all("img")[0].attributes["alt"].count(" after 192 steps") == 4
    beside = read_page(written(tmp_path / "beside.html", runs / "dqn", folder))
    assert beside.texts("h1") == ["dqn, both"]
    assert beside.texts("h3")[:2] == ["Played for this page", "both"]


def test_a_comparison_that_trains(tmp_path: Path, not_drawn: None) -> None:
    folder = tmp_path / "compared"
    assert gridmarl(*COMPARE, "--run-dir", folder).code == 0
    found = read_page(written(tmp_path / "page.html", folder))
    assert found.texts("h3")[:2] == [f"compared: dr_settlement = {name}" for name in ("two_settlement", "additive")]
    assert {line[1] for line in found.table("Ledger files")[1:]} == {"verified"}
    assert len(found.table("Ledger files")) == 3
    assert found.texts("code")[0].startswith("gridmarl compare two-stage-dr --days 1 --set num_prosumers=3 --lanes 2")


def test_the_command_shown_makes_the_same_run(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    settings = tmp_path / "market.json"
    settings.write_text('{"num_prosumers": 3, "alpha_permille": 1500}')
    changed = [argument for argument in TRAIN if argument not in ("--set", "num_prosumers=3")]
    assert gridmarl(*changed, "--config", settings, "--seed", "4", "--run-dir", tmp_path / "it's").code == 0
    found = read_page(written(tmp_path / "page.html", tmp_path / "it's", "--lanes", "1", "--hours", "0"))
    words = shlex.split(found.texts("code")[0])
    assert words[:3] == ["gridmarl", "train", "two-stage-dr"]
    assert words[-2:] == ["--run-dir", "it's"]
    assert "--config" not in words
    assert not [word for word in words if word.startswith("action_space")]
    again = tmp_path / "again"
    assert gridmarl(*words[1:-1], again).code == 0
    assert strict_json(again / "summary.json")["rows"] == strict_json(tmp_path / "it's" / "summary.json")["rows"]


TOTALS = {"nash_conv_tok": 12.34, "interval_tok": 1.5, "mean_tok": 4.1, "max_tok": 7.0, "share_of_profit": 0.015}


@pytest.mark.parametrize("found", [{"dqn": {"totals": {"stationary": TOTALS}}}, {"totals": {"stationary": TOTALS}}])
def test_exploitability_where_it_was_measured(found: Any, runs: Path, tmp_path: Path, not_drawn: None) -> None:
    folder = copy_of(runs / "dqn", tmp_path / "dqn", exploitability=found)
    shown = read_page(written(tmp_path / "page.html", folder, "--lanes", "1", "--hours", "0"))
    assert shown.table("Exploitability")[1] == ["dqn", "stationary", "12.3 ± 1.5", "4.1", "7.0", "1.50 %"]


def refused(outcome: Outcome) -> str:
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("gridmarl: error: ")
    assert outcome.err.count("\n") == 1
    return outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "runs: none given; allowed are one or more folders of runs"),
        (("nowhere",), "nowhere: no such folder; allowed is that of a run of `gridmarl train`"),
        (("{runs}",), "holds no config.json; allowed is the folder of a run of `gridmarl train`"),
        (("{runs}/dqn", "{runs}/dqn"), "one of them twice; allowed is each only once"),
        (("{runs}/dqn", "--lanes", "0"), "lanes: 0, allowed are 1"),
        (("{runs}/dqn", "--hours", "3", "24"), "hours: 24, allowed are 0 .. 23"),
        (("{runs}/dqn", "--out", "{runs}"), "allowed is a file in a folder that exists"),
        (("{runs}/dqn", "--out", "{runs}/no/page.html"), "no/page.html, allowed is a file in a folder that exists"),
        (("{runs}/dqn", "--device", "abacus"), "device: 'abacus', allowed are cpu"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], message: str, runs: Path) -> None:
    assert message in refused(gridmarl("report", *(argument.format(runs=runs) for argument in arguments)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exploitability": {"totals": {"learned": {}}}}, "exploitability: dqn learned: KeyError('share_of_profit')"),
        ({"levels": {"gains_share": 3}}, "levels.gains_share: int; allowed is an object"),
    ],
)
def test_a_summary_with_something_else_in_it(change: Any, message: str, runs: Path, tmp_path: Path) -> None:
    folder = copy_of(runs / "dqn", tmp_path / "dqn", **change)
    told = refused(gridmarl("report", folder, "--lanes", "1"))
    assert f"{folder / 'summary.json'}: {message}" in told
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"name": "x"}]}, "rows: Row.__init__() missing"),
        ({"hourly": {"truthful": {}}}, "hourly.truthful: KeyError('price_tok_per_kwh')"),
        ({"hourly": 3}, "hourly: int; allowed is an object"),
    ],
)
def test_a_comparison_with_something_else_in_it(change: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": "compare", "options": {}, "params": {}}))
    (tmp_path / "summary.json").write_text(json.dumps({"rows": [], "hourly": {}, "scenario": "x"} | change))
    assert f"{tmp_path / 'summary.json'}: {message}" in refused(gridmarl("report", tmp_path))


def test_runs_of_different_markets(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs / "dqn", other)
    config = strict_json(other / "config.json")
    config["env_options"]["alpha_permille"] = 1500
    (other / "config.json").write_text(json.dumps(config))
    told = refused(gridmarl("report", runs / "dqn", other))
    assert "were trained for different markets (alpha_permille=1200 against 1500)" in told


def test_the_page_lies_in_the_first_folder_unless_told_otherwise(runs: Path, tmp_path: Path, not_drawn: None) -> None:
    folder = tmp_path / "dqn"
    shutil.copytree(runs / "dqn", folder)
    outcome = gridmarl("report", folder, "--lanes", "1", "--hours", "0")
    assert outcome.code == 0
    assert outcome.out.startswith(f"{folder / 'report.html'}: ")

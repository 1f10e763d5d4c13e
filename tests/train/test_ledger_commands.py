"""`gridmarl ledger show`, `stats` and `export`: what they print, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridmarl.ledger.records import Kind
from gridmarl.train.ledger_views import fixed
from tests.ledger.builders import FULL, honest_file, save
from tests.oracles.ledger_play import Play, play_lane
from tests.train.command_line import gridmarl


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    save(tmp_path / "ledger.bin", honest_file(FULL, scenario="[red]a\x1b[31mb[/red]"))
    return tmp_path


def words(line: str) -> list[str]:
    return line.split()


def test_a_decimal_is_exact() -> None:
    assert [fixed(value, 3) for value in (0, 1, -1, 999, -1000, 1_234_567)] == [
        "0.000", "0.001", "-0.001", "0.999", "-1.000", "1,234.567",
    ]  # fmt: skip
    assert fixed(-(1 << 63), 6) == "-9,223,372,036,854.775808"  # a float would lose the last digits


def test_show_lists_rules_and_blocks(run_folder: Path) -> None:
    outcome = gridmarl("ledger", "show", run_folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert "  shift_deadline_hours: 3\n" in outcome.out
    assert r"  scenario: '[red]a\x1b[31mb[/red]'" in outcome.out  # shown, and not obeyed by the terminal
    assert "\x1b" not in outcome.out
    lines = outcome.out.splitlines()
    for height, hour in enumerate(play_lane(FULL, 1)):
        names = ("import_price", "export_price", "price", "dr_price", "volume_wh", "shortage_wh")
        expected = [str(height), str(height), *(f"{hour[name] / 1000:.3f}" for name in names)]
        assert any(words(line)[:8] == expected for line in lines), expected


def test_show_a_block_has_bids_readings_and_transactions(run_folder: Path) -> None:
    hour = play_lane(FULL, 1)[2]
    outcome = gridmarl("ledger", "show", run_folder, "--block", 2)
    assert (outcome.code, outcome.err) == (0, "")
    lines = [words(line) for line in outcome.out.splitlines()]
    assert ["height:", "2"] in lines
    assert ["price:", f"{hour['price'] / 1000:.3f}"] in lines
    assert ["alpha_permille:", "1000"] in lines
    for i in range(FULL.P):
        order = [hour[name][i] for name in ("buy_price", "buy_wh", "sell_price", "sell_wh")]
        assert [str(i), *(f"{value / 1000:.3f}" for value in order)] in lines
        names = ("offered_wh", "demand_wh", "returned_wh", "charge_wh", "discharge_wh", "generation_wh", "load_wh")
        assert [str(i), *(f"{hour[name][i] / 1000:.3f}" for name in names)] in lines
    flows = [(kind, i) for kind in range(8) for i in range(FULL.P) if hour["flow_wh"][kind][i]]
    for kind, i in flows:
        energy, price = hour["flow_wh"][kind][i], hour["flow_price"][kind][i]
        (line,) = [each for each in lines if each[:2] == [str(kind * FULL.P + i), Kind(kind + 1).name]]
        assert "prosumer" in line
        assert line[-3:] == [f"{energy / 1000:.3f}", f"{price / 1000:.3f}", f"{energy * price / 1e6:.6f}"]
    upstream = sum(energy > 0 for energy in hour["upstream_wh"])
    shown = len(flows) + upstream
    assert f"Transactions: {shown} of energy, {26 - shown} of none not shown" in outcome.out


def test_show_a_transaction(run_folder: Path) -> None:
    hour = play_lane(FULL, 1)[2]
    outcome = gridmarl("ledger", "show", run_folder, "--block", 2, "--tx", 7)
    energy, price = hour["flow_wh"][2][1], hour["import_price"]
    lines = outcome.out.splitlines()
    assert lines[0] == "block 2, transaction 7: IMPORT, prosumer 1 pays operator"
    assert words(lines[1])[0] == f"{energy / 1000:.3f}"
    assert f"  energy_wh: {energy}" in lines
    assert f"  amount_utok: {energy * price}" in lines


def test_stats_adds_up(run_folder: Path) -> None:
    outcome = gridmarl("ledger", "stats", run_folder)
    assert (outcome.code, outcome.err) == (0, "")
    hours = play_lane(FULL, 1)
    lines = [words(line) for line in outcome.out.splitlines()]
    bought = sum(sum(hour["flow_wh"][0]) for hour in hours)
    paid = sum(sum(hour["flow_wh"][0]) * hour["price"] for hour in hours)
    assert [line[3:] for line in lines if line[:1] == ["LOCAL_BUY"]] == [[f"{bought / 1000:.3f}", f"{paid / 1e6:.6f}"]]
    for i, balance in enumerate(hours[-1]["balances"][:3]):
        assert ["prosumer", str(i), f"{balance / 1e6:.6f}"] in lines
    assert ["upstream", f"{hours[-1]['balances'][5] / 1e6:.6f}"] in lines


def test_many_prosumers_are_summed_up(tmp_path: Path) -> None:
    save(tmp_path / "ledger.bin", honest_file(Play(P=21, H=1)))
    outcome = gridmarl("ledger", "stats", tmp_path)
    balances = play_lane(Play(P=21, H=1), 1)[-1]["balances"][:21]
    assert f"21 prosumers, least {min(balances) / 1e6:.6f}" in " ".join(outcome.out.split())
    assert "prosumer 20" not in outcome.out


def test_export_writes_every_transaction(run_folder: Path) -> None:
    out = run_folder / "rows.jsonl"
    outcome = gridmarl("ledger", "export", run_folder, "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert "130 transactions of 5 blocks" in outcome.out
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 130
    assert all(row["energy_wh"] * row["price_utok_per_wh"] == row["amount_utok"] for row in rows)


def test_a_damaged_ledger_is_refused_as_verify_does(run_folder: Path) -> None:
    content = bytearray((run_folder / "ledger.bin").read_bytes())
    content[-112 - 64 * 3] ^= 1  # in a transaction of the last block
    (run_folder / "ledger.bin").write_bytes(content)
    said = gridmarl("ledger", "verify", run_folder).out.splitlines()[-1]
    assert said.startswith("NOT VERIFIED: block 4, transactions, record 23 (PENALTY of prosumer 2), field ")
    out = run_folder / "rows.csv"
    for arguments in (["show"], ["show", "--block", 0], ["show", "--block", 0, "--tx", 0], ["stats"],
                      ["export", "--out", out]):  # fmt: skip
        outcome = gridmarl("ledger", arguments[0], run_folder, *arguments[1:])
        assert (outcome.code, outcome.out, outcome.err) == (1, said + "\n", ""), arguments
    assert not out.exists()


def test_options_that_do_not_fit_are_named(run_folder: Path) -> None:
    for arguments, told in (
        (["show", "--block", 5], "block = 5; 0 .. 4 are allowed"),
        (["show", "--block", -1], "block = -1; 0 .. 4 are allowed"),
        (["show", "--block", 0, "--tx", 26], "tx = 26; 0 .. 25 are allowed"),
        (["show", "--tx", 0], "allowed with --block N"),
        (["export", "--out", run_folder / "rows.xlsx"], ".jsonl, .parquet, .csv"),
    ):
        outcome = gridmarl("ledger", arguments[0], run_folder, *arguments[1:])
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), arguments
        assert told in outcome.err
    for command in (["show"], ["stats"], ["export", "--out", run_folder / "rows.csv"]):
        outcome = gridmarl("ledger", command[0], run_folder / "missing.bin", *command[1:])
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert "missing.bin" in outcome.err

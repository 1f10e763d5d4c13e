"""`gridmarl evm`: chapter 9's period and random ones, gas, JSON, compiled files, bad input, a missing extra."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gridmarl.cli import main
from gridmarl.errors import MissingExtraError
from gridmarl.evm.build import build
from gridmarl.evm.chain import Chain, GasUse
from gridmarl.evm.play import GasRow, Outcome, gas_by_function
from gridmarl.train import evm_command
from gridmarl.train.evm_command import random_period
from tests.evm.conftest import terms

MAX_DEPLOYED_BYTES = 24_576  # EIP-170


def run_json(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["evm", "run", *options, "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def test_the_period_of_chapter_9(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evm", "run"]) == 0
    shown = capsys.readouterr().out
    assert "chain and tensors agree: quotas, final quotas and balances are equal to the last µtok" in shown
    for line in ("initialize          1", "demand_submit       8", "auction             1", "payment             8"):
        assert line in shown
    assert "margin 171.500 kWh" in shown
    # station D bought 10.9 kWh and paid for 39.924 kWh at 112 tokens: 4,471.488; and 240 for the quota
    assert "33.000   29.024        39.924        -4,711.488" in shown


def test_the_page_has_the_gas_of_now(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run_json(capsys)
    page = (repository / "docs" / "evm.md").read_text(encoding="utf-8")
    for row in shown["gas"]["the period"]:
        assert f"| {row['function']} | {row['calls']} | {row['total']:,} |" in page
    assert f"| total | 35 | {shown['gas_total']['the period']:,} |" in page
    deployed = {row["function"]: f"{row['total']:,}" for row in shown["gas"]["setting up"]}
    assert f"token {deployed['token (deployment)']}, market {deployed['quota_market (deployment)']}" in page


def test_json_is_the_same_every_time_and_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--case", "random", "--stations", "3", "--seed", "4", "--forfeit-permille", "100")
    shown = run_json(capsys, *options)
    assert shown == run_json(capsys, *options)
    assert shown["equal"] is True
    assert shown["chain"] == shown["tensors"]
    assert sum(shown["chain"]["balances_utok"]) == sum(shown["balances_before_utok"])
    assert shown["terms"]["num_stations"] == len(shown["round"]["declared_wh"]) == 3
    period = {row["function"]: row for row in shown["gas"]["the period"]}
    assert [name for name, row in period.items() if row["calls"] == 3] == ["demand_submit", "submit", "payment"]
    assert shown["gas_total"]["the period"] == sum(row["total"] for row in period.values())
    assert all(21_000 < row["least"] <= row["most"] for row in period.values())


def test_a_difference_is_told_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = evm_command.play_on_tensors

    def off_by_one(*arguments: Any) -> Outcome:
        outcome = real(*arguments)
        return outcome._replace(balances_utok=[each + 1 for each in outcome.balances_utok])

    monkeypatch.setattr(evm_command, "play_on_tensors", off_by_one)
    assert main(["evm", "run", "--case", "random", "--stations", "1"]) == 1
    assert "chain and tensors DIFFER" in capsys.readouterr().out


def test_sales_of_chapter_9_stay_within_a_smaller_margin() -> None:
    for margin_kw in (-5, 0, 40, 343, 400):
        plan = evm_command.chapter_period(margin_kw * 500)
        assert sum(order.quantity_wh for order in plan.orders if order and order.side == "sell") <= max(
            0, margin_kw * 500
        )


def test_random_periods_have_both_sides() -> None:
    plan = random_period(terms(16, cap=600_000), random.Random(0), None)
    assert {order.side for order in plan.orders if order} == {"buy", "sell"}
    assert plan.margin_wh == sum(each or 0 for each in plan.declared_wh) * 4 // 5
    assert len(plan.withdrawing) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stations", "3"), "stations, seed: 3, None; allowed are with --case random only"),
        (("--case", "random", "--stations", "17"), "stations: 17, allowed are 1 .. 16"),
        (("--margin-kw", "1000001"), "margin_kw: 1000001, allowed are -1000000 .. 1000000"),
        (("--forfeit-permille", "1001"), "forfeit_permille: 1001, allowed are integers 0 .. 1000"),
        (("--deposit-rate", "10000000"), "balance of account 0, lane 0: 180000000000 µtok asked"),
    ],
)
def test_bad_input_is_one_line(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evm", "run", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gridmarl: error: {message}")
    assert error.count("\n") == 1


def test_build_writes_what_a_chain_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evm", "build", "--out", str(tmp_path / "built")]) == 0
    assert "token.json: 1," in capsys.readouterr().out
    for name in ("token", "quota_market"):
        content = json.loads((tmp_path / "built" / f"{name}.json").read_text(encoding="utf-8"))
        assert content["contractName"] == name
        assert bytes.fromhex(content["bytecode"].removeprefix("0x"))
        assert {each["type"] for each in content["abi"]} == {"function", "event", "constructor"}
        assert 1_000 < build(name).runtime_bytes < MAX_DEPLOYED_BYTES
    (tmp_path / "file").touch()
    assert main(["evm", "build", "--out", str(tmp_path / "file")]) == 2
    assert "is a file, allowed is a folder" in capsys.readouterr().err


def test_gas_by_function() -> None:
    uses = [GasUse("b", 5), GasUse("a", 3), GasUse("b", 2)]
    assert gas_by_function(uses) == [GasRow("b", 2, 2, 5, 7), GasRow("a", 1, 3, 3, 3)]


@pytest.mark.parametrize("package", ["vyper", "eth_tester", "web3"])
def test_a_missing_extra_is_one_line(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=r"need vyper, eth-tester, py-evm and web3: pip install 'gridmarl\[evm\]'$"
    ):
        (build.__wrapped__("token") if package == "vyper" else Chain(1))
    build.cache_clear()
    assert main(["evm", "run"]) == 2
    expected = "contracts on an EVM need vyper, eth-tester, py-evm and web3: pip install 'gridmarl[evm]'"
    assert capsys.readouterr().err == f"gridmarl: error: {expected}\n"


def test_importing_loads_none_of_it() -> None:
    program = (
        "import sys, gridmarl.train.commands, gridmarl.evm.market, gridmarl.evm.play, gridmarl.evm.build;"
        "print({'vyper', 'web3', 'eth', 'eth_tester', 'eth_abi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

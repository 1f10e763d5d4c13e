"""`gridmarl ledger consensus`: one line per mechanism, on a file or on a day of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ledger.builders import Play, honest_file
from tests.train.command_line import gridmarl

PLAY = Play(P=7, H=12, price_range=(5, 60))
BLOCKS = 12
TRANSACTIONS = BLOCKS * (8 * 7 + 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "ledger.bin").write_bytes(honest_file(PLAY))
    return folder


def cells(out: str, name: str) -> list[str]:
    line = next(line for line in out.splitlines() if line.strip().startswith(name))
    return line.split()[len(name.split()) :]


def test_a_table_of_four_mechanisms_with_the_quoted_throughputs(run: Path) -> None:
    outcome = gridmarl("ledger", "consensus", run, "--difficulty", 4)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{BLOCKS} blocks, {TRANSACTIONS} transactions, 7 validators, 0 silent" in outcome.out
    final = {"proof of authority": "9", "proof of stake": "6", "proof of work": "6", "pbft": "12"}
    for name, number in final.items():
        assert cells(outcome.out, name)[:3] == [number, "of", "12"]
    mean, slash, longest, messages, hashes = cells(outcome.out, "pbft")[3:8]
    assert (mean, slash, longest, messages, hashes) == ("0.3", "/", "0.3", "1,008", "84")
    for quoted in ("Energy Web", "EOS 3,996", "Bitcoin 7", "Ethereum", "review papers"):
        assert quoted in outcome.out
    assert max(map(len, outcome.out.splitlines()[1:])) <= 100  # the first names the file, however long
    assert outcome == gridmarl("ledger", "consensus", run / "ledger.bin", "--difficulty", 4)


def test_what_stops_under_its_faults_is_said_and_the_rest_goes_on(run: Path) -> None:
    for fault, word in (("silent", "stops"), ("equivocating", "splits")):
        outcome = gridmarl("ledger", "consensus", run, "--difficulty", 2, "--faulty", 3, "--fault", fault)
        assert outcome.code == 0
        assert cells(outcome.out, "pbft")[0] == "stops"
        assert f"pbft: {word} at height 0" in outcome.out
        assert cells(outcome.out, "proof of authority")[1] == "of"


def test_without_a_file_a_day_is_played() -> None:
    outcome = gridmarl("ledger", "consensus", "--difficulty", 0, "--coin-age", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert "one day of truthful prosumers: 24 blocks, 1,968 transactions, 10 validators" in outcome.out
    assert cells(outcome.out, "pbft")[:3] == ["24", "of", "24"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--validators", 8), "validators: 8, allowed are 4 .. 7"),
        (("--validators", 3), "validators: 3, allowed are 4 .. 7"),
        (("--faulty", 8), "faulty: 8, allowed are 0 .. 7"),
        (("--difficulty", 25), "difficulty_bits: 25, allowed are 0 .. 24"),
        (("--timeout-ms", 100), "timeout_ms: 100, allowed for pbft is at least 5 * message_delay_ms = 500"),
        (("--seed", -1), "seed: -1"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(run: Path, arguments: tuple[object, ...], named: str) -> None:
    outcome = gridmarl("ledger", "consensus", run, *arguments)
    assert outcome.code == 2
    assert named in outcome.err
    assert outcome.out == ""


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    outcome = gridmarl("ledger", "consensus", tmp_path)
    assert outcome.code == 2
    assert "ledger.bin" in outcome.err

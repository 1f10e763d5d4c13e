"""The benchmark of finality runs, its rows add up, and its figures say where they come from."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.finality import Options, main


def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(output=tmp_path / "finality.csv", balances_tok=(0,), credits_tok=(0, None), lanes=2, hours=12)
    rows = main(options, ["--lanes", "2"])
    instant, *strict = rows
    assert (instant.finality, instant.refused_share, instant.interest_tok) == ("instant", 0.0, 0.0)
    assert [(row.mechanism, row.lag_hours) for row in strict[:4]] == [
        ("pbft", 0), ("proof_of_authority", 5), ("proof_of_stake", 6), ("proof_of_work", 6),
    ]  # fmt: skip
    for row in strict:
        if row.local_credit_tok is None:
            assert row.refused_share == 0
            assert row.local_kwh == instant.local_kwh
            assert row.gains_share == instant.gains_share, "interest moves money, not energy"
            assert row.bill_tok == pytest.approx(instant.bill_tok + row.interest_tok, abs=1e-9)
            assert row.operator_tok == pytest.approx(instant.operator_tok + 10 * row.interest_tok, abs=1e-6)
        else:
            assert row.refused_share > 0
            assert row.local_kwh < instant.local_kwh
    assert strict[0].indebted_share <= strict[2].indebted_share, "what is held back longer is missing more often"
    with options.output.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(rows)
    assert lines[0]["command"] == "python -m benchmarks.finality --lanes 2"
    assert {"commit", "cpu", "torch", "date", "seed"} <= set(lines[0])
    assert "stake, work" in capsys.readouterr().out

"""The sealing benchmark runs, every route of it, and its figures say where they come from. No timing is asserted."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from benchmarks import sealing
from benchmarks.sealing import Options, main
from gridmarl.ledger.tiles_jit import has_numba

ROUTES = [
    ("copy", ""),
    ("packing", "at once"),
    ("packing", "tiles by torch, sealed"),
    ("packing", "tiles by numba, sealed"),
    ("packing", "tiles by torch, batch"),
    ("packing", "tiles by numba, batch"),
    ("hashing", "package, per lane"),
    ("hashing", "package, once"),
    ("sealed", "package, tiles by torch"),
    ("batch", "package, tiles by torch"),
    ("batch", "package, tiles by numba"),
    ("batch", "tensors, eager"),
]


WITHOUT_NUMBA = [route for route in ROUTES if "numba" not in route[1]]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(not has_numba(), reason="numba is not installed")
def test_quick_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "sealing.csv"
    main(Options(quick=True, output=out), ["--quick"])
    assert "load before" in capsys.readouterr().out
    rows = read(out)
    assert [(row["route"], row["mode"]) for row in rows] == ROUTES
    for row in rows:
        assert all(value for name, value in row.items() if name != "mode"), row
        assert (row["lanes"], row["prosumers"], row["threads_used"], row["repeats"]) == ("4", "3", "1", "1")
        assert row["command"] == "python -m benchmarks.sealing --quick"
        assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", row["commit"])
        nanoseconds = float(row["ns_per_record"])
        assert 0 < float(row["fastest_ns_per_record"]) <= nanoseconds
        assert float(row["records_per_s"]) * nanoseconds == pytest.approx(1e9, rel=0.01)
        assert float(row["gb_per_s"]) == pytest.approx(64 / nanoseconds, rel=0.02, abs=1e-3)


def test_options_reach_the_figures_without_numba_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "has_numba", lambda: False)
    options = Options(lanes=(2, 3), prosumers=2, threads=(1,), repeats=2, tensors=False, output=tmp_path / "rates.csv")
    rates = main(options, [])
    assert [(rate.route, rate.mode) for rate in rates] == 2 * WITHOUT_NUMBA[:-1]
    assert {(rate.lanes, rate.records) for rate in rates} == {(2, 2 * 23), (3, 3 * 23)}
    assert {rate.repeats for rate in rates} == {2}

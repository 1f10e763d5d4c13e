"""The benchmark of PPO against Stable-Baselines3 runs; its figures say where they come from. No timing is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.ppo_vs_sb3 import Options, main, products
from benchmarks.time_to_share import Runner
from tests.benchmarks.test_throughput import PROVENANCE, read


def test_rates(tmp_path: Path) -> None:
    out = tmp_path / "rates.csv"
    options = Options(
        widths=(8,), batch_sizes=(40,), lanes=2, rollout=4, epochs=1, rounds=1, compiled=False, output=out
    )
    rates = main(options, ["--quick"])
    rows = read(out)
    assert [row["contender"] for row in rows] == ["native", "sb3", "products", "gradient_products"]
    assert all(row[name] for row in rows for name in PROVENANCE)
    assert rows[0]["command"] == "python -m benchmarks.ppo_vs_sb3 --quick"
    native, sb3, alone, _ = rates
    assert native.times_sb3 == pytest.approx(native.steps_per_s / sb3.steps_per_s)
    assert native.of_products == pytest.approx(native.steps_per_s / alone.steps_per_s)
    assert (sb3.times_sb3, alone.of_products) == (1.0, 1.0)
    assert native.update_of_gradient_products is not None
    assert sb3.update_of_gradient_products is None


@pytest.mark.parametrize("gradients", [False, True])
def test_products_are_those_of_a_network(gradients: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many multiplications as forward and backward of both networks take."""
    counted = 0

    def mm(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
        nonlocal counted
        assert out.shape == (left.shape[0], right.shape[1])
        counted += left.numel() * right.shape[1]

    run = products([(5, 7, 7, 3), (5, 7, 7, 1)], 11, gradients=gradients)
    monkeypatch.setattr(torch, "mm", mm)
    run()
    forward = (5 * 7 + 7 * 7 + 7 * 3) + (5 * 7 + 7 * 7 + 7)
    first = 2 * 5 * 7  # gets no gradient of its inputs
    assert counted == 11 * (3 * forward - first if gradients else forward)


def test_times_to_shares(tmp_path: Path) -> None:
    out = tmp_path / "times.csv"
    options = Options(
        time_to_share=True,
        shares=(-1e6, 1e6),
        seeds=1,
        sb3_lanes=(),
        lanes=2,
        eval_lanes=2,
        cap_seconds=0.0,
        output=out,
    )
    easy, hard = main(options, [])
    assert (easy.reached, hard.reached) == (True, False)
    assert easy.env_steps == hard.env_steps == 96
    assert all(row[name] for row in read(out) for name in PROVENANCE)


def test_the_first_time_counts() -> None:
    shares = iter([0.5, 0.95, 0.7, 1.3])
    runner = Runner("x", 2, lambda: None, ["policy"], None, 10)
    for _ in range(4):
        runner.advance(lambda policy: next(shares))
    row = runner.row(3, 0.9, 0.1, 60.0)
    assert (row.reached, row.env_steps, row.best_share, row.last_share, row.seed) == (True, 20, 1.3, 1.3, 3)
    late = runner.row(3, 2.0, 0.1, 60.0)
    assert (late.reached, late.env_steps) == (False, 40)

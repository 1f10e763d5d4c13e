"""Who seals decides when money is final, where finality is strict and no lag is set."""

from __future__ import annotations

from typing import Any

import pytest

from gridmarl.train.compare import Compare
from gridmarl.train.train_options import Train

STRICT = ("finality=strict", "num_prosumers=7")


@pytest.mark.parametrize("command", [Compare, Train])
@pytest.mark.parametrize(
    ("options", "lag"),
    [
        ({}, 0),
        ({"validators": 7}, 3),
        ({"consensus": "proof_of_work"}, 6),
        ({"consensus": "proof_of_stake"}, 6),
        ({"consensus": "pbft"}, 0),
    ],
)
def test_the_lag_follows_from_who_seals(command: Any, options: dict[str, Any], lag: int) -> None:
    assert command(set=STRICT, **options).parameters().finality_lag_hours == lag
    assert command(set=(*STRICT, "finality_lag_hours=2"), **options).parameters().finality_lag_hours == 2
    assert command(set=STRICT[1:], **options).parameters().finality_lag_hours == 0

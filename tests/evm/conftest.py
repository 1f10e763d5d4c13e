"""One chain with a market for all tests of a process that only ask it to calculate: compiling takes seconds."""

from __future__ import annotations

import pytest

from gridmarl.contracts.quota_sums import QuotaTerms
from gridmarl.evm.market import ChainMarket


def terms(stations: int = 3, deposit: int = 100, penalty: int = 500, forfeit: int = 0, cap: int = 1_000) -> QuotaTerms:
    """µtok/Wh; prices from 0."""
    return QuotaTerms(stations, deposit, penalty, forfeit, 0, cap)


@pytest.fixture(scope="session")
def calculator() -> ChainMarket:
    """A market whose pure functions are called; no round is played in it."""
    return ChainMarket(terms(), [0, 0, 0, 0])

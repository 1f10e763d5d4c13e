"""Floor division by float64, which compiled code uses, against Python's integers, where float64 is at its limits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gridmarl.preferences import floor_div, floor_div_by_float64

NUMERATORS = st.integers(-(2**62) + 1, 2**62 - 1)
DENOMINATORS = st.integers(1, 2**50 - 1) | st.integers(1, 3_000)


@given(NUMERATORS, DENOMINATORS, st.booleans())
def test_any_quotient(numerator: int, denominator: int, negative: bool) -> None:
    by = -denominator if negative else denominator
    expected = numerator // by
    assert int(floor_div_by_float64(torch.tensor(numerator), by)) == expected
    assert int(floor_div_by_float64(torch.tensor(numerator), torch.tensor(by))) == expected


@given(st.integers(-(2**62), 2**62), DENOMINATORS, st.integers(-2, 2))
def test_beside_a_multiple(target: int, denominator: int, beside: int) -> None:
    """Next to an exact multiple, where one rounding decides."""
    numerator = target // denominator * denominator + beside
    if abs(numerator) < 2**62:
        assert int(floor_div_by_float64(torch.tensor(numerator), denominator)) == numerator // denominator


def test_one_float64_division_would_not_do() -> None:
    """Else the second one proves nothing."""
    numerator = torch.tensor(3 * 2**60 - 1)
    once = torch.floor(numerator.to(torch.float64) / 3.0).to(torch.int64)
    assert int(once) != int(numerator) // 3
    assert int(floor_div_by_float64(numerator, 3)) == int(numerator) // 3


@pytest.mark.parametrize("denominator", [1000, 2000])
def test_compiled_graphs_take_this_way(denominator: int) -> None:
    """In a traced graph the division is by float64, and the integers are those of the eager one."""
    seen = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        seen.append(graph.code)
        return graph.forward

    values = torch.tensor([-(2**61), -1, 0, 1, 999, 1000, 2**61 + 7])
    compiled = torch.compile(lambda x: floor_div(x, denominator), backend=backend, fullgraph=True)
    assert torch.equal(compiled(values), floor_div(values, denominator))
    assert "float64" in seen[0]

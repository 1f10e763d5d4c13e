"""Tiles by torch's copies and by the compiled loop: both hold the words that `pack_hour` gives, whatever the hour."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from gridmarl.errors import LedgerError, MissingExtraError
from gridmarl.ledger import HourRecord, seal_hour, tiles_jit
from gridmarl.ledger import tiles as tiles_module
from gridmarl.ledger.batch import BatchRoots
from gridmarl.ledger.batch_verify import pieces
from gridmarl.ledger.packing import pack_hour
from gridmarl.ledger.tiles import Tiles, part_words
from tests.oracles.ledger_seal import random_hour, seal

Ranges = Sequence[tuple[int, int]]


@pytest.fixture(params=[False, True], ids=["torch", "compiled loop"])
def jit(request: pytest.FixtureRequest) -> bool:
    if request.param and not tiles_jit.has_numba():
        pytest.skip("numba is not installed")
    return bool(request.param)


def cuts(prosumers: int, interest: bool = False) -> list[Ranges]:
    """A part in one range, and as the batches cut it."""
    words = part_words(prosumers, interest=interest)
    return [[(0, words)], [(128 * first, 128 * chunks) for first, chunks in pieces(8 * words)]]


def packed(tiles: Tiles, hour: HourRecord, ranges: Ranges) -> Tensor:
    """All words of an hour, put together from its tiles."""
    rows: list[list[Tensor]] = []
    for first, words in tiles.pack(hour):
        if first == 0:
            rows.append([])
        assert first == sum(len(each) for each in rows[-1])
        rows[-1].append(words.clone())
    assert len(rows) == len(ranges)
    return torch.cat([torch.cat(each) for each in rows], dim=1)


def expected(hour: HourRecord, lanes: Sequence[int], ranges: Ranges) -> Tensor:
    words = pad(pack_hour(hour, lanes), (0, 128))
    return words[:, : sum(count for _, count in ranges)]


@pytest.mark.parametrize("interest", [False, True])
def test_every_number_of_prosumers_and_lanes(jit: bool, interest: bool) -> None:
    for prosumers in range(1, 41):
        lanes = range(5, 5 + 3 * (1 + prosumers % 11), 3)  # 1 to 11 of them: with and without a rest of four
        for ranges in cuts(prosumers, interest):
            tiles = Tiles(prosumers, lanes, ranges, interest=interest, jit=jit)
            for seed, period in ((prosumers, prosumers), (prosumers + 1, 0)):  # prices of a kind alike, and not
                hour = random_hour(prosumers, len(lanes), seed, period=period, interest=interest)
                assert torch.equal(packed(tiles, hour, ranges), expected(hour, lanes, ranges))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lanes", [16, 17, 18, 19, 31, 33])
def test_partial_tiles(jit: bool, lanes: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles_module, "_lanes_of_a_tile", lambda words, *, jit: 8)
    for ranges in cuts(3):
        tiles = Tiles(3, range(lanes), ranges, threads=threads, jit=jit)
        for seed in range(2):
            hour = random_hour(3, lanes, seed)
            assert len(list(tiles.pack(hour))) == len(ranges) * -(-lanes // 8)
            assert torch.equal(packed(tiles, hour, ranges), expected(hour, range(lanes), ranges))


@pytest.mark.parametrize("interest", [False, True])
def test_columns_of_any_strides(jit: bool, interest: bool) -> None:
    prosumers, lanes = 5, range(13)
    hour = random_hour(prosumers, 13, seed=0, interest=interest)

    def every_other(values: Tensor) -> Tensor:
        return torch.stack((values, -values), -1).flatten(-2)[..., ::2]

    def lane_first(values: Tensor) -> Tensor:
        return values.transpose(0, -1).contiguous().transpose(0, -1)

    def all_alike(values: Tensor) -> Tensor:
        return values.flatten()[:1].expand(values.shape) if values.numel() else values

    def rows_alike(values: Tensor) -> Tensor:
        return values[..., :1, :].expand(values.shape) if values.dim() > 1 else values

    for change in (every_other, lane_first, all_alike, rows_alike):
        changed = hour._make((7, *(change(values) for values in hour[1:])))
        for ranges in cuts(prosumers, interest):
            tiles = Tiles(prosumers, lanes, ranges, interest=interest, jit=jit)
            assert torch.equal(packed(tiles, changed, ranges), expected(changed, lanes, ranges))


def test_any_period(jit: bool) -> None:
    (ranges, _) = cuts(2)
    tiles = Tiles(2, range(6), ranges, jit=jit)
    hour = random_hour(2, 6, seed=1)
    for period in (0, 1, 47, 2**31 - 1, 3, 3):
        again = hour._replace(period=period)
        assert torch.equal(packed(tiles, again, ranges), expected(again, range(6), ranges))


@pytest.mark.parametrize("name", ["price", "load_wh", "flow_wh", "flow_price", "upstream_wh", "balances", "debts_utok"])
@pytest.mark.parametrize("interest", [False, True])
def test_an_hour_of_other_shapes_is_an_error(jit: bool, name: str, interest: bool) -> None:
    hour = random_hour(3, 6, seed=0, interest=interest)
    ranges = cuts(3, interest)[0]
    tiles = Tiles(3, range(6), ranges, interest=interest, jit=jit)
    values = getattr(hour, name)
    wrong = [values[..., :5], values[:-1], values.to(torch.int32)]
    if name == "debts_utok" and not interest:
        wrong = [torch.zeros((2, 3, 6), dtype=torch.int64)]
    for value in wrong:
        with pytest.raises(LedgerError, match=f"hour: {name} is .* int64 is allowed"):
            list(tiles.pack(hour._replace(**{name: value})))
    assert torch.equal(packed(tiles, hour, ranges), expected(hour, range(6), ranges))


def test_roots_of_batches_do_not_depend_on_the_route(jit: bool) -> None:
    hour, lanes = random_hour(7, 300, seed=3), range(2, 302)
    stock = BatchRoots(7, lanes, threads=1, jit=False).root(hour)
    for threads in (1, 2):
        assert BatchRoots(7, lanes, threads=threads, jit=jit).root(hour) == stock


def test_blocks_of_lanes_do_not_depend_on_the_route(jit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles_module, "_JIT_RECORDS", 0 if jit else 1 << 60)
    monkeypatch.setattr(tiles_module, "_lanes_of_a_tile", lambda words, *, jit: 8)
    hour, lanes, parents = (
        random_hour(6, 21, seed=2, period=9),
        range(3, 24),
        [bytes([lane]) * 32 for lane in range(21)],
    )
    assert seal_hour(hour, parents, [9] * 21, lanes) == seal(hour, parents, [9] * 21, lanes)


def test_the_loop_is_taken_where_it_pays_and_numba_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (ranges, _) = cuts(32)
    monkeypatch.setattr(tiles_module, "has_numba", lambda: True)
    monkeypatch.setattr(tiles_module, "JitTile", tiles_module.TorchTile)  # nothing is compiled here
    assert Tiles(32, range(1024), ranges).jit
    assert not Tiles(32, range(512), ranges).jit
    assert not Tiles(32, range(1024), ranges, jit=False).jit
    monkeypatch.setattr(tiles_module, "has_numba", lambda: False)
    assert not Tiles(32, range(1024), ranges).jit


def test_without_numba_the_loop_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not tiles_jit.has_numba()
    (ranges, _) = cuts(3)
    with pytest.raises(MissingExtraError, match=r"^[^\n]*pip install 'gridmarl\[fast\]'$"):
        Tiles(3, range(4), ranges, jit=True)


def test_the_loop_leaves_the_interpreter_to_others() -> None:
    if not tiles_jit.has_numba():
        pytest.skip("numba is not installed")
    options = tiles_jit._compiled(18).targetoptions  # type: ignore[attr-defined]
    assert options["nogil"]
    assert not options.get("parallel")

"""Philox against the published vectors, and what the rest relies on: lanes, purposes and seeds that share nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.errors import ConfigError
from gridmarl.random import MASK, Purpose, below, draw, lane_keys, philox4x32, roulette, wheel

# kat_vectors of Random123, "philox4x32 10": counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


def scalar_philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """The paper's round function on Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def on_tensors(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    c = tuple(torch.tensor(word) for word in counter)
    k = tuple(torch.tensor(word) for word in key)
    return tuple(int(word) for word in philox4x32(c, k))  # type: ignore[arg-type]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_published_vectors(counter: str, key: str, result: str) -> None:
    assert on_tensors(words(counter), words(key)) == words(result)
    assert scalar_philox(words(counter), words(key)) == words(result)


U32 = st.integers(0, MASK)


@settings(max_examples=60, deadline=None)
@given(st.tuples(U32, U32, U32, U32), st.tuples(U32, U32))
def test_equals_the_scalar_reference(counter: tuple[int, ...], key: tuple[int, ...]) -> None:
    assert on_tensors(counter, key) == scalar_philox(counter, key)


def test_philox_broadcasts() -> None:
    rows, columns, zero = torch.arange(3).view(3, 1), torch.arange(5), torch.tensor(0)
    out = philox4x32((rows, zero, columns, zero), (columns, zero))
    assert all(word.shape == (3, 5) and word.dtype == torch.int64 for word in out)
    assert tuple(int(word[2, 4]) for word in out) == scalar_philox((2, 0, 4, 0), (4, 0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**62 - 1), U32)
def test_lane_key_is_philox_of_seed_lane_episode(seed: int, lane: int, episode: int) -> None:
    key = lane_keys(seed, 1, first_lane=lane, episode=episode)
    expected = scalar_philox((lane & MASK, lane >> 32, episode, 0x6B657973), (seed & MASK, seed >> 32))
    assert tuple(key[:, 0].tolist()) == expected[:2]


@settings(max_examples=40, deadline=None)
@given(U32, st.integers(0, 2**32 - 1), U32)
def test_draw_is_philox_of_period_purpose_agent_index(period: int, purpose: int, index: int) -> None:
    keys = lane_keys(5, 2)
    key = tuple(keys[:, 1].tolist())
    out = draw(keys, period, purpose, 3, index)
    assert out.shape == (4, 3, 2)
    assert tuple(out[:, 2, 1].tolist()) == scalar_philox((period, purpose, 2, index), key)
    alone = draw(keys, period, purpose, None, index)
    assert alone.shape == (4, 2)
    assert tuple(alone[:, 1].tolist()) == scalar_philox((period, purpose, MASK, index), key)


def test_lane_of_a_batch_is_the_single_run_of_that_lane() -> None:
    batch = lane_keys(123, 40, episode=3)
    all_words = draw(batch, 7, Purpose.LOAD, 6)
    for lane in (0, 1, 17, 39):
        single = lane_keys(123, 1, first_lane=lane, episode=3)
        assert torch.equal(single, batch[:, lane : lane + 1])
        assert torch.equal(draw(single, 7, Purpose.LOAD, 6), all_words[:, :, lane : lane + 1])
    assert torch.equal(draw(batch, 7, Purpose.LOAD, 4), all_words[:, :4])  # fewer agents change nothing


def test_period_may_be_a_tensor_per_lane() -> None:
    keys = lane_keys(1, 3)
    period = torch.tensor([4, 9, 4])
    out = draw(keys, period, Purpose.PRICE, 2)
    assert torch.equal(out[:, :, 0], draw(keys, 4, Purpose.PRICE, 2)[:, :, 0])
    assert torch.equal(out[:, :, 1], draw(keys, 9, Purpose.PRICE, 2)[:, :, 1])
    assert torch.equal(draw(keys, torch.tensor(9), Purpose.PRICE), draw(keys, 9, Purpose.PRICE))


def assert_unrelated(a: Tensor, b: Tensor) -> None:
    """Bits of two draws agree in half of all places, within five standard deviations."""
    difference = (a ^ b).flatten()
    ones = sum(int(((difference >> bit) & 1).sum()) for bit in range(32))
    places = 32 * difference.numel()
    assert abs(ones - places / 2) < 5 * (places / 4) ** 0.5


def test_every_part_of_the_address_matters() -> None:
    def get(seed: int = 9, episode: int = 0, period: int = 0, purpose: int = 1, index: int = 0) -> Tensor:
        return draw(lane_keys(seed, 64, episode=episode), period, purpose, 32, index)

    base = get()
    for other in (get(seed=10), get(seed=9 + 2**32), get(episode=1), get(period=1), get(purpose=2), get(index=1)):
        assert_unrelated(base, other)
    assert_unrelated(base[:, :-1], base[:, 1:])  # agents
    assert_unrelated(base[..., :-1], base[..., 1:])  # lanes
    assert_unrelated(base[0], base[1])  # words
    assert base.flatten().unique().numel() > base.numel() - 5


def test_neighbouring_seeds_share_no_lane_key() -> None:
    keys = torch.cat([lane_keys(seed, 500, episode=episode) for seed in range(20) for episode in (0, 1)], dim=1)
    packed = keys[0] * 2**31 + keys[1] // 2
    assert packed.unique().numel() == keys.size(1) == 20_000
    assert int(keys.min()) >= 0
    assert int(keys.max()) <= MASK


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((-1, 1), "seed"), ((2**64, 1), "seed"), ((0, 0), "num_envs")],
)
def test_lane_keys_names_the_bad_field(arguments: tuple[int, int], name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} = {arguments[0] if name == 'seed' else arguments[1]}: allowed"):
        lane_keys(*arguments)


def test_bad_episode_lane_period_purpose_index_are_named() -> None:
    keys = lane_keys(0, 1)
    with pytest.raises(ConfigError, match="episode"):
        lane_keys(0, 1, episode=-1)
    with pytest.raises(ConfigError, match="first_lane"):
        lane_keys(0, 1, first_lane=-1)
    with pytest.raises(ConfigError, match="period"):
        draw(keys, -1, 1)
    with pytest.raises(ConfigError, match="purpose"):
        draw(keys, 0, 2**32)
    with pytest.raises(ConfigError, match="index"):
        draw(keys, 0, 1, index=-1)


def test_below_covers_its_range() -> None:
    ends = torch.tensor([0, MASK])
    for n in (1, 2, 7, 2**31 - 1):
        assert below(ends, n).tolist() == [0, n - 1]
    assert below(torch.tensor([MASK, MASK]), torch.tensor([3, 2**31 - 1])).tolist() == [2, 2**31 - 2]
    for n in (0, 2**31):
        with pytest.raises(ConfigError, match=f"n = {n}: allowed"):
            below(ends, n)


def chi_squared(counts: Tensor, weights: Tensor) -> float:
    expected = counts.sum() * weights / weights.sum()
    kept = weights > 0
    return float((((counts - expected) ** 2)[kept] / expected[kept]).sum())


def test_roulette_frequencies_match_the_weights() -> None:
    weights = torch.tensor([0, 5, 1, 0, 20, 3, 0])
    u32 = draw(lane_keys(77, 200), 0, Purpose.DAY_KIND, 100)
    drawn = roulette(u32, wheel(weights.tolist()))
    counts = torch.bincount(drawn.flatten(), minlength=7)
    assert counts[weights == 0].sum() == 0
    assert chi_squared(counts, weights) < 16.27  # 99.9 % point with 3 degrees of freedom
    assert chi_squared(counts, torch.tensor([0, 5, 1, 0, 20, 4, 0])) > 16.27  # the test can fail


def test_roulette_at_the_edges() -> None:
    u32 = torch.tensor([0, MASK])
    assert roulette(u32, wheel([0, 0, 4, 0])).tolist() == [2, 2]
    assert roulette(u32, wheel([1])).tolist() == [0, 0]
    assert roulette(u32, wheel([2**31 - 2, 1])).tolist() == [0, 1]
    quarter = 2**30
    assert roulette(torch.tensor([quarter - 1, quarter, 2 * quarter]), wheel([1, 0, 1, 2])).tolist() == [0, 2, 3]


def test_roulette_per_lane_weights_equal_shared_ones() -> None:
    u32 = draw(lane_keys(3, 6), 0, Purpose.PV_DAY, 50)[0]
    table = torch.stack([wheel([lane + 1, 0, 3, 2 * lane]) for lane in range(6)])
    together = roulette(u32, table)
    for lane in range(6):
        assert torch.equal(together[:, lane], roulette(u32[:, lane], table[lane]))


def test_wheel_names_the_bad_weight() -> None:
    with pytest.raises(ConfigError, match=r"weights\[1\] = -2"):
        wheel([1, -2])
    with pytest.raises(ConfigError, match="total of weights = 0"):
        wheel([0, 0])
    with pytest.raises(ConfigError, match="total of weights"):
        wheel([2**31])


def test_runs_on_fake_cuda_tensors() -> None:
    with FakeTensorMode():
        keys = lane_keys(1, 8, device="cuda")
        out = draw(keys, torch.zeros(8, dtype=torch.int64, device="cuda"), Purpose.PRICE, 4)
        word = out.select(0, 0)  # indexing with [] needs a CUDA build even for fake tensors
        drawn = roulette(word, torch.ones(4, 8, 5, dtype=torch.int64, device="cuda"))
        shared = roulette(word, torch.ones(5, dtype=torch.int64, device="cuda"))
        assert {t.device.type for t in (keys, out, drawn, shared, below(out, 3))} == {"cuda"}
        assert out.shape == (4, 4, 8)
        assert drawn.shape == shared.shape == (4, 8)

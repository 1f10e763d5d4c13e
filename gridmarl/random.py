"""Counter-based random numbers: Philox 4x32-10 on int64 tensors. The same bits on every device and in any batch size.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), Philox 4x32 with ten
rounds; checked against the known-answer vectors that the authors publish with Random123.

A random word is a function of where it is used, never of what was drawn before:

* key of a lane = `philox(seed, lane, episode)`: see `lane_keys`. Neighbouring seeds share no key.
* counter = (period, purpose, agent, index): see `draw`.

So lane `i` of a batch of N draws what a single run of lane `i` draws, and leaving out a draw shifts no other.

Words are held as int64 with values 0 .. 2**32-1 (torch has no full set of operations on uint32). Everything that ends
in a market quantity is drawn from integers: `below` and `roulette`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from gridmarl.errors import ConfigError

MASK = 0xFFFF_FFFF
NO_AGENT = 0xFFFF_FFFF
MAX_TOTAL = 2**31  # exclusive bound of `below`'s n and of a wheel's total: u32 * n then fits in int64

_ROUNDS = 10
_MULTIPLIERS = (0xD251_1F53, 0xCD9E_8D57)
_KEY_STEPS = (0x9E37_79B9, 0xBB67_AE85)
_KEY_TAG = 0x6B65_7973  # "keys": sets the derivation of lane keys apart


class Purpose(IntEnum):
    """What a random word is for: the second word of the counter. A new use gets a new number; numbers never change."""

    PRICE = 1
    DAY_KIND = 2
    LOAD = 3
    PV_DAY = 4
    PV_HOUR = 5
    FORECAST = 6
    PARTICIPATION = 7
    ZERO_INTELLIGENCE = 8
    EXPLORE = 9
    INIT = 10
    REPLAY = 11
    EV_DAY = 12
    EV_COUNT = 13
    EV_SESSION = 14
    EV_LOAD = 15
    AGGREGATOR_DEVIATION = 16
    AGGREGATOR_FORECAST = 17
    FLEXIBILITY_REQUEST = 18
    FLEXIBILITY_COST = 19


def _two(values: tuple[int, int], device: torch.device) -> Tensor:
    """`[2]` int64 constant made on the device itself: copying it there would stall a GPU at every draw."""
    first, second = values
    step = second - first
    return torch.arange(first, second + (1 if step > 0 else -1), step, dtype=torch.int64, device=device)


def _philox(even: Tensor, odd: Tensor, key: Tensor) -> Tensor:
    """`[4, ...]` words from counter words (0, 2) and (1, 3), each `[2, ...]` of one shape, and key `[2, ...]`.

    The two multiplications of a round are one operation on the stacked pair. `odd` may carry garbage above bit 31: it
    is masked where it is used next. A 32 x 32 bit product wraps in int64, which leaves its 64 bits as they should be.
    """
    tail = (1,) * (even.dim() - 1)
    multipliers = _two(_MULTIPLIERS, even.device).view(2, *tail)
    rounds = torch.arange(_ROUNDS, dtype=torch.int64, device=even.device).view(_ROUNDS, 1, *tail)
    round_keys = key + rounds * _two(_KEY_STEPS, even.device).view(2, *tail)
    for round_key in round_keys.unbind(0):
        product = (even * multipliers).flip(0)
        # in place: fetching fresh memory takes longer than the arithmetic
        even = (product >> 32).bitwise_xor_(odd).bitwise_xor_(round_key).bitwise_and_(MASK)
        odd = product
    return torch.stack((even, odd & MASK), dim=1).flatten(0, 1)


def philox4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words per element of the broadcast shape.

    Args:
        counter: four int64 tensors, values 0 .. 2**32-1.
        key: two int64 tensors, values 0 .. 2**32-1.

    Returns:
        four int64 tensors of the broadcast shape, values 0 .. 2**32-1.
    """
    c0, c1, c2, c3, k0, k1 = torch.broadcast_tensors(*counter, *key)
    w0, w1, w2, w3 = _philox(torch.stack((c0, c2)), torch.stack((c1, c3)), torch.stack((k0, k1))).unbind(0)
    return w0, w1, w2, w3


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value < high:
        raise ConfigError(f"{name} = {value}: allowed are {low} <= {name} < {high}")


def lane_keys(
    seed: int, num_envs: int, *, first_lane: int = 0, episode: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Keys `[2, E]` int64 of lanes `first_lane .. first_lane + E - 1` in one episode of one run.

    The first two words of Philox under the key (seed low, seed high) of the counter (lane low, lane high, episode,
    constant tag).

    Raises:
        ConfigError: `seed` outside 0 .. 2**64-1, `num_envs < 1`, or `first_lane` or `episode` out of range.
    """
    _check("seed", seed, 0, 2**64)
    _check("num_envs", num_envs, 1, 2**31)
    _check("first_lane", first_lane, 0, 2**62)
    _check("episode", episode, 0, 2**32)
    lane = torch.arange(first_lane, first_lane + num_envs, dtype=torch.int64, device=device)
    low, high, third, fourth, key0, key1 = (
        lane & MASK,
        lane >> 32,
        torch.full_like(lane, episode),
        torch.full_like(lane, _KEY_TAG),
        torch.full_like(lane, seed & MASK),
        torch.full_like(lane, seed >> 32),
    )
    return _philox(torch.stack((low, third)), torch.stack((high, fourth)), torch.stack((key0, key1))).narrow(0, 0, 2)


def draw(keys: Tensor, period: int | Tensor, purpose: int, num_agents: int | None = None, index: int = 0) -> Tensor:
    """Four random words per lane, or per agent and lane: Philox of the counter (period, purpose, agent, index).

    Args:
        keys: `[2, E]` int64 from `lane_keys`.
        period: hour of the episode, 0 .. 2**32-1; an int, or an int64 tensor of shape `[]` or `[E]`.
        purpose: a `Purpose` (or any number 0 .. 2**32-1 of your own from 2**16 up).
        num_agents: P; None for one draw per lane (its agent word is 0xFFFFFFFF).
        index: 0 .. 2**32-1, for more than four words.

    Returns:
        `[4, E]` int64, or `[4, P, E]`, values 0 .. 2**32-1. Agent `i` of P draws the same for any P > i.

    Raises:
        ConfigError: an int out of range (tensors are not looked at).
    """
    _check("purpose", purpose, 0, 2**32)
    _check("index", index, 0, 2**32)
    if isinstance(period, int):
        _check("period", period, 0, 2**32)
    lanes = keys.size(1)
    shape: tuple[int, ...] = (lanes,)
    agent: int | Tensor = NO_AGENT
    if num_agents is not None:
        _check("num_agents", num_agents, 0, NO_AGENT)
        shape = (num_agents, lanes)
        agent = torch.arange(num_agents, dtype=torch.int64, device=keys.device).view(-1, 1)
        keys = keys.view(2, 1, lanes)
    period, second, agent, fourth = (
        word.expand(shape) if isinstance(word, Tensor) else keys.new_full(shape, word)
        for word in (period, purpose, agent, index)
    )
    return _philox(torch.stack((period, agent)), torch.stack((second, fourth)), keys)


def below(u32: Tensor, n: int | Tensor) -> Tensor:
    """Integers 0 .. n-1 from random words: `(u32 * n) >> 32`. No value is off its share by more than 2**-32.

    `1 <= n < 2**31`, an int or an int64 tensor that broadcasts against `u32`.

    Raises:
        ConfigError: an int `n` out of range (tensors are not looked at).
    """
    if isinstance(n, int):
        _check("n", n, 1, MAX_TOTAL)
    return (u32 * n) >> 32


def roulette(u32: Tensor, cumulative: Tensor) -> Tensor:
    """Roulette wheel: the bin that each random word falls in, bin `j` with probability `weight_j / total`.

    Args:
        u32: random words, any shape `[...]`, int64.
        cumulative: int64 running totals of weights >= 0 in the last dimension: `[B]`, shared, or `[..., B]` with
            leading dimensions that broadcast against those of `u32`. `1 <= total < 2**31`: see `wheel`.

    Returns:
        int64 index 0 .. B-1 of the first bin whose running total exceeds `below(u32, total)`. A bin of weight zero is
        never drawn.
    """
    mark = below(u32, cumulative.select(-1, -1))
    if cumulative.dim() == 1:
        return torch.searchsorted(cumulative, mark, right=True)
    return (cumulative <= mark.unsqueeze(-1)).sum(dim=-1)


def wheel(weights: Sequence[int], *, device: torch.device | str = "cpu") -> Tensor:
    """Running totals `[B]` int64 of host weights, checked, for `roulette`.

    Raises:
        ConfigError: a negative weight, or a total outside 1 .. 2**31-1.
    """
    for position, weight in enumerate(weights):
        if weight < 0:
            raise ConfigError(f"weights[{position}] = {weight}: allowed are weights >= 0")
    _check("total of weights", sum(weights), 1, MAX_TOTAL)
    return torch.tensor(list(weights), dtype=torch.int64, device=device).cumsum(0)

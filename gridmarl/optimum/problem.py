"""What the central planner is told: everything about every prosumer over a whole horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gridmarl.errors import ConfigError
from gridmarl.units import MAX_ORDER_WH, MAX_PRICE_UTOK_PER_WH, PERMILLE

MAX_BETA_UTOK_PER_WH = 100_000_000_000  # the highest price at an elasticity of 0.1 permille
MAX_GAMMA_NTOK_PER_WH2 = 10_000_000_000_000  # the highest price, a load of 1 Wh, an elasticity of 1 permille

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PlanProblem:
    """Preferences, generation, prices and equipment of `P` prosumers over `T` hours; integers, units as named.

    Anything that NumPy turns into whole numbers is accepted and stored as a read-only int64 copy. Battery fields are
    one number for all prosumers or one per prosumer, and are stored as `[P]`. Symbols as in docs/market-rules.md.

    Attributes:
        beta_utok_per_wh: `[P, T]`, marginal utility at zero consumption, `beta`.
        gamma_ntok_per_wh2: `[P, T]`, slope of marginal utility, `gamma`, at least 1.
        d_min_wh: `[P, T]`, least consumption in its own hour.
        d_max_wh: `[P, T]`, greatest consumption.
        generation_wh: `[P, T]`, actual generation `g`.
        import_price_utok_per_wh: `[T]`, `imp`.
        export_price_utok_per_wh: `[T]`, `exp <= imp`.
        shift_share_permille: share of a reduction that is shifted to a later hour, 0 .. 1000.
        shift_deadline_hours: hours after which shifted energy has returned; 0: nothing is shifted.
        discomfort_utok_per_wh: cost of shifting.
        battery_capacity_wh: 0: no battery.
        battery_power_w: greatest energy charged or discharged in one hour, the last hour excepted.
        battery_efficiency_permille: applied once, on charging; 1 .. 1000.
        battery_initial_wh: charge at the start, restored at the end of the horizon; at most the capacity.

    Raises:
        ConfigError: a field has the wrong shape, is not finite or not whole, or lies outside its range.
    """

    beta_utok_per_wh: ArrayLike
    gamma_ntok_per_wh2: ArrayLike
    d_min_wh: ArrayLike
    d_max_wh: ArrayLike
    generation_wh: ArrayLike
    import_price_utok_per_wh: ArrayLike
    export_price_utok_per_wh: ArrayLike
    shift_share_permille: int = 0
    shift_deadline_hours: int = 0
    discomfort_utok_per_wh: int = 0
    battery_capacity_wh: ArrayLike = 0
    battery_power_w: ArrayLike = 0
    battery_efficiency_permille: ArrayLike = PERMILLE
    battery_initial_wh: ArrayLike = 0

    def __post_init__(self) -> None:
        beta = _whole("beta_utok_per_wh", self.beta_utok_per_wh, -MAX_BETA_UTOK_PER_WH, MAX_BETA_UTOK_PER_WH)
        if beta.ndim != 2 or beta.size == 0:
            raise ConfigError(f"beta_utok_per_wh: shape {beta.shape}, allowed is [P, T] with P >= 1 and T >= 1")
        prosumers, hours = beta.shape
        self._store("beta_utok_per_wh", beta)
        price = MAX_PRICE_UTOK_PER_WH
        for name, shape, low, high in (
            ("gamma_ntok_per_wh2", (prosumers, hours), 1, MAX_GAMMA_NTOK_PER_WH2),
            ("d_min_wh", (prosumers, hours), 0, MAX_ORDER_WH),
            ("d_max_wh", (prosumers, hours), 0, MAX_ORDER_WH),
            ("generation_wh", (prosumers, hours), 0, MAX_ORDER_WH),
            ("import_price_utok_per_wh", (hours,), -price, price),
            ("export_price_utok_per_wh", (hours,), -price, price),
        ):
            self._store(name, _shaped(name, _whole(name, getattr(self, name), low, high), shape))
        for name, low, high in (
            ("battery_capacity_wh", 0, MAX_ORDER_WH),
            ("battery_power_w", 0, MAX_ORDER_WH),
            ("battery_efficiency_permille", 1, PERMILLE),
            ("battery_initial_wh", 0, MAX_ORDER_WH),
        ):
            value = _whole(name, getattr(self, name), low, high)
            if value.ndim == 0:
                value = np.full(prosumers, value, dtype=np.int64)
            self._store(name, _shaped(name, value, (prosumers,)))
        for name, high in (
            ("shift_share_permille", PERMILLE),
            ("shift_deadline_hours", 2**31),
            ("discomfort_utok_per_wh", price),
        ):
            value = _shaped(name, _whole(name, getattr(self, name), 0, high), ())
            object.__setattr__(self, name, int(value))
        _ordered("d_min_wh", self.d_min_wh, "d_max_wh", self.d_max_wh)
        _ordered("export_price_utok_per_wh", self.export_price_utok_per_wh, "import_price_utok_per_wh",
                 self.import_price_utok_per_wh)  # fmt: skip
        _ordered("battery_initial_wh", self.battery_initial_wh, "battery_capacity_wh", self.battery_capacity_wh)

    def _store(self, name: str, value: Int64Array) -> None:
        value.setflags(write=False)
        object.__setattr__(self, name, value)

    def array(self, name: str) -> NDArray[np.float64]:
        """The named field as a new float64 array; exact, since every bound is below 2**53."""
        return np.array(getattr(self, name), dtype=np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """`(P, T)`."""
        prosumers, hours = np.shape(self.d_max_wh)
        return prosumers, hours


def _whole(name: str, value: Any, low: int, high: int) -> Int64Array:
    """A new int64 array of `value`, whose entries are finite, whole and in `low .. high`."""
    try:
        array = np.asarray(value)
        numbers = array if array.dtype.kind in "iu" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {value!r} is not an array of numbers") from error
    allowed = f"allowed are whole numbers {low} .. {high}"
    # Written so that a NaN, which compares false with everything, counts as wrong.
    wrong = ~((numbers >= low) & (numbers <= high))
    if not wrong.any() and numbers.dtype.kind == "f":
        wrong = numbers != np.floor(numbers)
    if wrong.any():
        raise ConfigError(f"{name}: {_culprit(numbers, wrong)}, {allowed}")
    return numbers.astype(np.int64)


def _shaped(name: str, value: Int64Array, shape: tuple[int, ...]) -> Int64Array:
    if value.shape != shape:
        raise ConfigError(f"{name}: shape {value.shape}, allowed is {shape}")
    return value


def _ordered(low_name: str, low: ArrayLike, high_name: str, high: ArrayLike) -> None:
    low, high = np.asarray(low), np.asarray(high)
    if (low > high).any():
        raise ConfigError(f"{low_name}: {_culprit(low, low > high)}, allowed is at most {high_name} = "
                          f"{high[tuple(_first(low > high))]}")  # fmt: skip


def _first(wrong: NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.argwhere(wrong)[0]]


def _culprit(numbers: NDArray[Any], wrong: NDArray[np.bool_]) -> str:
    position = _first(wrong)
    return f"{numbers[tuple(position)]} at {position}" if position else f"{numbers[()]}"

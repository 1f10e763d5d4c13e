"""TwoStageDR as something to look at: the hour just settled, the episode so far, in a picture or as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gridmarl.envs.rendering.amounts import energy_text, price_text
from gridmarl.envs.rendering.curves import UTOK_PER_WH_PER_TOKEN_PER_KWH, WH_PER_KWH, MarketHour, draw_market
from gridmarl.envs.rendering.host import Integers, checked_lane, on_host
from gridmarl.envs.rendering.panels import draw_balances, draw_load, draw_prices, emptied_axes, small_print
from gridmarl.envs.rendering.text import LABEL, WIDTH, extremes, labelled, number, sparkline
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.envs.two_stage_dr.step import Settled
from gridmarl.errors import ConfigError
from gridmarl.units import UTOK_PER_TOKEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR

_PLACES = (
    (0.075, 0.385, 0.40, 0.45),  # market curves
    (0.565, 0.685, 0.425, 0.215),  # prices
    (0.565, 0.385, 0.425, 0.215),  # load
    (0.075, 0.09, 0.915, 0.19),  # balances
)
MAX_NAMED = 10
"""Up to so many prosumers are listed one by one in text."""
Number = TypeVar("Number", int, NDArray[np.float64])


def market_hour(settled: Settled, lane: int = 0) -> MarketHour:
    """Orders and outcome of one lane of a settled hour, `BatchedTwoStageDR.settled`; on the host.

    Raises:
        ConfigError: no such lane.
    """
    checked_lane(lane, settled.import_price.shape[0])
    orders, market = settled.orders, settled.market
    return MarketHour(
        hour=settled.hour,
        buy_price_utok_per_wh=on_host(orders.buy_price[:, lane]),
        buy_wh=on_host(orders.buy_wh[:, lane]),
        sell_price_utok_per_wh=on_host(orders.sell_price[:, lane]),
        sell_wh=on_host(orders.sell_wh[:, lane]),
        import_price_utok_per_wh=int(settled.import_price[lane]),
        export_price_utok_per_wh=int(settled.export_price[lane]),
        price_utok_per_wh=int(market.price[lane]),
        volume_wh=int(market.volume_wh[lane]),
        shortage_wh=int(market.shortage_wh[lane]),
        reduced_wh=int(settled.accepted_wh[:, lane].sum()),
        dr_price_utok_per_wh=int(market.dr_price[lane]),
    )


class _Totals(NamedTuple, Generic[Number]):
    """The whole community in one hour, or column by column in all; µtok/Wh and Wh."""

    price: Number
    dr_price: Number
    load_before_wh: Number
    load_after_wh: Number
    generation_wh: Number
    upstream_import_wh: Number
    upstream_export_wh: Number


class MarketView:
    """One lane's episode so far; `gridmarl.envs.rendering.screen.Screen` shows it.

    `start` with the state after a reset, then `record` with each settled hour, in order.
    """

    def __init__(self, params: TwoStageDRParams, lane: int = 0) -> None:
        self.params = params
        self.lane = lane
        self.market: MarketHour | None = None
        """The hour settled last."""
        self._hours: list[_Totals[int]] = []
        self._widest_kwh = 0.0
        self._import_price: Integers | None = None  # [T], of the whole episode: it is published
        self._export_price: Integers | None = None
        self._balances: Integers | None = None  # [P + 3], µtok

    def start(self, state: State) -> None:
        """Begin an episode: forget the last one, take the published prices and the balances."""
        self.market, self._hours, self._widest_kwh = None, [], 0.0
        self._import_price = on_host(state.import_price[:, self.lane])
        self._export_price = on_host(state.export_price[:, self.lane])
        self._balances = on_host(state.balances[:, self.lane])

    def record(self, settled: Settled) -> None:
        """Add a settled hour."""
        self.market = market_hour(settled, self.lane)
        self._widest_kwh = max(self._widest_kwh, self.market.widest_kwh)
        self._balances = on_host(settled.balances[:, self.lane])
        upstream = on_host(settled.flows.upstream_wh[:, self.lane])
        self._hours.append(
            _Totals(
                price=self.market.price_utok_per_wh,
                dr_price=self.market.dr_price_utok_per_wh,
                load_before_wh=int(self.market.buy_wh.sum()),
                load_after_wh=int(settled.load_wh[:, self.lane].sum()),
                generation_wh=int(settled.home.generation_wh[:, self.lane].sum()),
                upstream_import_wh=int(upstream[0]),
                upstream_export_wh=int(upstream[1]),
            )
        )

    def _started(self) -> tuple[Integers, Integers, Integers]:
        """Import prices, export prices, balances; ConfigError before the first `start`."""
        if self._import_price is None or self._export_price is None or self._balances is None:
            raise ConfigError("render: there is no episode yet, call reset() first")
        return self._import_price, self._export_price, self._balances

    def draw(self, figure: Figure) -> None:
        """The frame: market curves left, prices and load right, balances below."""
        import_price, export_price, balances = self._started()
        with small_print():
            curves, prices, load, accounts = emptied_axes(figure, _PLACES)
            figure.text(0.01, 0.985, self.headline(), va="top", fontsize=10, fontweight="bold")
            self._draw_curves(curves)
            self._draw_course(prices, load, import_price, export_price)
            count, tokens = self.params.num_prosumers, balances / UTOK_PER_TOKEN
            draw_balances(accounts, tokens[:count], [("operator", tokens[count + 1])])

    def _draw_curves(self, axes: Axes) -> None:
        axes.set_axis_on()
        if self.market is None:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no hour settled yet", ha="center", transform=axes.transAxes, color="0.4")
        else:
            draw_market(axes, self.market, energy_limit_kwh=self._widest_kwh * 1.05 or 1.0)

    def _draw_course(self, prices: Axes, load: Axes, import_price: Integers, export_price: Integers) -> None:
        """Hour by hour: prices, and loads with generation."""
        columns = np.array(self._hours, dtype=np.float64).reshape(-1, len(_Totals._fields)).T
        hours = _Totals(*columns)
        unit = UTOK_PER_WH_PER_TOKEN_PER_KWH
        dr_price = np.where(hours.dr_price > 0, hours.dr_price, np.nan)
        draw_prices(prices, hours.price / unit, import_price / unit, export_price / unit, dr_price / unit)
        draw_load(
            load,
            hours.load_before_wh / WH_PER_KWH,
            hours.load_after_wh / WH_PER_KWH,
            hours.generation_wh / WH_PER_KWH,
            len(import_price),
        )

    def headline(self) -> str:
        """Which hour, and what came out."""
        if self.market is None:
            return f"Before the first of {self.params.horizon_hours} hours"
        day, hour = divmod(self.market.hour, 24)
        energy, price = energy_text(self.market.volume_wh), price_text(self.market.price_utok_per_wh)
        return f"Day {day + 1}, {hour:02d}:00-{hour + 1:02d}:00: {energy} kWh cleared at {price} token/kWh"

    def text(self) -> str:
        """The frame as lines of at most `WIDTH` columns."""
        import_price, _, balances = self._started()
        head = f"TwoStageDR  {self.headline()}"
        if self.market is None:
            return "\n".join([head, *self._balance_lines(balances)])
        market, now = self.market, self._hours[-1]
        responded = market.shortage_wh > 0 and market.dr_price_utok_per_wh > 0
        rows = (
            (
                "tok/kWh",
                ("price", price_text(market.price_utok_per_wh)),
                ("import", price_text(market.import_price_utok_per_wh)),
                ("export", price_text(market.export_price_utok_per_wh)),
                ("DR", price_text(market.dr_price_utok_per_wh) if responded else "none"),
            ),
            (
                "kWh",
                ("cleared", energy_text(market.volume_wh)),
                ("short", energy_text(market.shortage_wh)),
                ("reduced", energy_text(market.reduced_wh)),
                ("from grid", energy_text(now.upstream_import_wh)),
                ("to grid", energy_text(now.upstream_export_wh)),
            ),
            (
                "",
                ("load", energy_text(now.load_before_wh)),
                ("after stage 2", energy_text(now.load_after_wh)),
                ("generation", energy_text(now.generation_wh)),
            ),
        )
        lines = [f"{head}  (hour {market.hour + 1} of {len(import_price)})"]
        for name, *parts in rows:
            lines += labelled(name, [f"{what} {value}" for what, value in parts])
        return "\n".join([*lines, self._price_line(), *self._balance_lines(balances)])

    def _price_line(self) -> str:
        """The last hours' prices as a sparkline between their least and greatest."""
        room = WIDTH - LABEL - 26
        prices = [hour.price for hour in self._hours[-room:]]
        return f"{'price':<{LABEL}}{sparkline(prices)}  {price_text(min(prices))} .. {price_text(max(prices))}"

    def _balance_lines(self, balances: Integers) -> list[str]:
        count = self.params.num_prosumers
        mine, operator = balances[:count] / UTOK_PER_TOKEN, balances[count + 1] / UTOK_PER_TOKEN
        if count <= MAX_NAMED:
            parts = [f"{index}: {number(value)}" for index, value in enumerate(mine)]
        else:
            parts = extremes(mine, "prosumer")
        return labelled("balances", [*parts, f"operator: {number(operator)}"])


def view_of(env: BatchedTwoStageDR, lane: int = 0) -> MarketView:
    """A view of one lane of an environment, for `EnvEntry.view`."""
    return MarketView(env.params, lane)

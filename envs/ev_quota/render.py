"""EVQuota as something to look at: the half hour just settled, the day so far, in a picture or as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gridmarl.envs.ev_quota.panels import (
    HALF_HOURS_PER_HOUR,
    MAX_NAMES,
    clock,
    draw_day,
    draw_stations,
    draw_transformer,
)
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.state import State
from gridmarl.envs.ev_quota.step import Settled
from gridmarl.envs.rendering.amounts import energy_text, price_text
from gridmarl.envs.rendering.auction import AuctionBook, draw_auction
from gridmarl.envs.rendering.curves import WH_PER_KWH
from gridmarl.envs.rendering.host import Integers, checked_lane, on_host
from gridmarl.envs.rendering.panels import draw_balances, emptied_axes, small_print
from gridmarl.envs.rendering.text import LABEL, extremes, labelled, number, sparkline
from gridmarl.errors import ConfigError
from gridmarl.units import UTOK_PER_TOKEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gridmarl.envs.ev_quota.batched import BatchedEVQuota

_PLACES = (
    (0.075, 0.575, 0.40, 0.265),  # auction
    (0.565, 0.665, 0.425, 0.215),  # transformer
    (0.075, 0.125, 0.40, 0.275),  # stations in this half hour
    (0.565, 0.385, 0.425, 0.14),  # the day so far
    (0.565, 0.125, 0.425, 0.14),  # balances
)
MAX_NAMED = 8
"""Up to so many stations are listed one by one in text."""
_COLUMN = 11  # columns of a station in text


@dataclass(frozen=True)
class QuotaHalfHour:
    """One settled half hour of one lane, on the host; `[N]` int64 Wh unless said otherwise."""

    half_hour: int
    margin_wh: int  # published
    actual_margin_wh: int
    overload_wh: int
    tariff_utok_per_wh: int
    scarce: bool
    book: AuctionBook
    declared_wh: Integers
    quota_wh: Integers  # after the auction
    used_wh: Integers
    vehicles: Integers  # that wanted energy
    unserved_wh: Integers

    @property
    def beyond_quota_wh(self) -> Integers:
        """What stations charged beyond their final quotas."""
        beyond: Integers = np.maximum(self.used_wh - self.quota_wh, 0)
        return beyond


def quota_half_hour(settled: Settled, lane: int = 0) -> QuotaHalfHour:
    """One lane of a settled half hour, `BatchedEVQuota.settled`.

    Raises:
        ConfigError: no such lane.
    """
    checked_lane(lane, settled.margin_wh.shape[0])
    orders, trades = settled.orders, settled.trades
    price = on_host(orders.price[:, lane])
    return QuotaHalfHour(
        half_hour=settled.half_hour,
        margin_wh=int(settled.margin_wh[lane]),
        actual_margin_wh=int(settled.actual_margin_wh[lane]),
        overload_wh=int(settled.overload_wh[lane]),
        tariff_utok_per_wh=int(settled.tariff),
        scarce=bool(settled.declared.scarce[lane]),
        book=AuctionBook(
            bid_price=price,
            bid_wh=on_host(orders.buy_wh[:, lane]),
            bid_fill_wh=on_host(trades.buy_fill_wh[:, lane]),
            payment_utok=on_host(trades.payment_utok[:, lane]),
            offer_price=price,
            offer_wh=on_host(orders.sell_wh[:, lane]),
            start=settled.half_hour,
        ),
        declared_wh=on_host(settled.declared.declared_wh[:, lane]),
        quota_wh=on_host(settled.quota_wh[:, lane]),
        used_wh=on_host(settled.used_wh[:, lane]),
        vehicles=on_host(settled.situation.plugged[:, lane]),
        unserved_wh=on_host(settled.unserved_wh[:, lane]),
    )


class QuotaView:
    """One lane's episode so far; `gridmarl.envs.rendering.screen.Screen` shows it.

    `start` with the state after a reset, then `record` with each settled half hour, in order.

    Args:
        start_slot: half hour of the clock at which the day begins, as the scenario has it.
        lane: of the environment.
    """

    def __init__(self, params: EVQuotaParams, start_slot: int, lane: int = 0) -> None:
        self.params, self.start_slot, self.lane = params, start_slot, lane
        self.last: QuotaHalfHour | None = None
        """The half hour settled last."""
        self._margin_wh: Integers | None = None  # [T], published; as it turned out where that is known
        self._balances: Integers | None = None  # [N + 1], µtok
        self._forget()

    def _forget(self) -> None:
        self.last = None
        self._charged_wh: list[int] = []
        self._overload_wh: list[int] = []
        self._top_wh = 0
        self._delivered_wh = np.zeros(self.params.num_stations, dtype=np.int64)
        self._unserved_wh = np.zeros(self.params.num_stations, dtype=np.int64)

    def start(self, state: State) -> None:
        """Begin an episode: forget the last one, take the published margins and the balances."""
        self._forget()
        self._margin_wh = on_host(state.margin_wh[: self.params.horizon_half_hours, self.lane])
        self._balances = on_host(state.balances[:, self.lane])

    def record(self, settled: Settled) -> None:
        """Add a settled half hour."""
        margin, _ = self._started()
        self.last = now = quota_half_hour(settled, self.lane)
        margin[now.half_hour] = now.actual_margin_wh
        self._top_wh = max(self._top_wh, *(int(part.max()) for part in (now.declared_wh, now.quota_wh, now.used_wh)))
        self._charged_wh.append(int(now.used_wh.sum()))
        self._overload_wh.append(now.overload_wh)
        self._delivered_wh += now.used_wh
        self._unserved_wh += now.unserved_wh
        self._balances = on_host(settled.balances[:, self.lane])

    def _started(self) -> tuple[Integers, Integers]:
        """Margins and balances; ConfigError before the first `start`."""
        if self._margin_wh is None or self._balances is None:
            raise ConfigError("render: there is no episode yet, call reset() first")
        return self._margin_wh, self._balances

    def draw(self, figure: Figure) -> None:
        """The frame: auction and stations of the half hour left, transformer, day so far and balances right."""
        margin, balances = self._started()
        charged, overload = (np.array(part, dtype=np.int64) for part in (self._charged_wh, self._overload_wh))
        with small_print():
            auction, transformer, stations, day, accounts = emptied_axes(figure, _PLACES)
            figure.text(0.01, 0.985, self.headline(), va="top", fontsize=10, fontweight="bold")
            draw_transformer(
                transformer, self.params.transformer_capacity_w, margin, charged, overload, self.start_slot
            )
            self._draw_half_hour(auction, stations)
            draw_day(day, self._delivered_wh, self._unserved_wh)
            tokens = balances / UTOK_PER_TOKEN
            draw_balances(accounts, tokens[:-1], [], names=MAX_NAMES)
            accounts.set_xlabel(f"balance of each station, token (DSO: {number(tokens[-1], 0)})")

    def _draw_half_hour(self, auction: Axes, stations: Axes) -> None:
        """What is of this half hour alone."""
        if self.last is None:
            for axes in (auction, stations):
                _say(axes, "no half hour settled yet")
            return
        stations.set_axis_on()
        now = self.last
        draw_stations(stations, now.declared_wh, now.quota_wh, now.used_wh, now.vehicles, self._top_wh / WH_PER_KWH)
        if now.book.is_empty:
            _say(auction, self._no_auction())
        else:
            auction.set_axis_on()
            limits = (self.params.floor_utok_per_wh, self.params.cap_utok_per_wh)
            draw_auction(auction, now.book, limits)

    def _no_auction(self) -> str:
        scarce = self.last is not None and self.last.scarce
        return "quotas are scarce, but nobody bids or offers" if scarce else "quotas meet all demands: no auction"

    def headline(self) -> str:
        """Which half hour, and what came out."""
        if self.last is None:
            return f"Before the first of {self.params.horizon_half_hours} half hours"
        now, slot = self.last, self.start_slot + self.last.half_hour
        charged, margin, traded = (
            number(energy_wh / WH_PER_KWH, 2)
            for energy_wh in (int(now.used_wh.sum()), now.actual_margin_wh, now.book.volume_wh)
        )
        text = f"{clock(slot)}-{clock(slot + 1)}: {charged} kWh charged (margin {margin})"
        if not now.book.volume_wh:
            return text
        return f"{text}; {traded} kWh traded at {price_text(now.book.mean_price_utok_per_wh)} token/kWh"

    def text(self) -> str:
        """The frame as lines of at most `WIDTH` columns."""
        _, balances = self._started()
        head, now = f"EVQuota  {self.headline()}", self.last
        if now is None:
            return "\n".join([head, *self._station_lines(balances)])
        lines = [
            f"{head}  ({now.half_hour + 1} of {self.params.horizon_half_hours})",
            *labelled("kWh", self._energies(now)),
            *labelled("tok/kWh", [f"tariff {price_text(now.tariff_utok_per_wh)}", *self._auction_parts(now.book)]),
            self._load_line(),
        ]
        return "\n".join([*lines, *self._station_lines(balances)])

    def _energies(self, now: QuotaHalfHour) -> list[str]:
        amounts = (
            ("margin", now.actual_margin_wh),
            ("declared", now.declared_wh.sum()),
            ("quotas", now.quota_wh.sum()),
            ("charged", now.used_wh.sum()),
            ("beyond quota", now.beyond_quota_wh.sum()),
            ("overload", now.overload_wh),
            ("unserved", now.unserved_wh.sum()),
        )
        return [f"{name} {energy_text(int(value))}" for name, value in amounts]

    def _auction_parts(self, book: AuctionBook) -> list[str]:
        if book.is_empty:
            return [self._no_auction()]
        parts = [
            f"bids {energy_text(int(book.bid_wh.sum()))} kWh",
            f"offers {energy_text(int(book.offer_wh.sum()))} kWh",
        ]
        price = price_text(book.mean_price_utok_per_wh)
        return [*parts, f"traded {energy_text(book.volume_wh)} kWh at {price}" if book.volume_wh else "no trade"]

    def _load_line(self) -> str:
        """Mean power of the transformer so far, from nothing to the capacity."""
        margin, _ = self._started()
        capacity = self.params.transformer_capacity_w
        half = np.array(self._charged_wh, dtype=np.int64)
        load_w = capacity + HALF_HOURS_PER_HOUR * (half - margin[: len(half)])
        shown = sparkline(list(load_w), 0, max(capacity, 1))
        now, most = (number(value / WH_PER_KWH, 1) for value in (load_w[-1], capacity))
        return f"{'load':<{LABEL}}{shown}  {now} of {most} kW"

    def _station_lines(self, balances: Integers) -> list[str]:
        rows: list[tuple[str, Integers, float, int]] = []
        if self.last is not None:
            now = self.last
            rows += [
                ("declared", now.declared_wh, WH_PER_KWH, 3),
                ("quota", now.quota_wh, WH_PER_KWH, 3),
                ("charged", now.used_wh, WH_PER_KWH, 3),
                ("vehicles", now.vehicles, 1, 0),
                ("delivered", self._delivered_wh, WH_PER_KWH, 3),
                ("unserved", self._unserved_wh, WH_PER_KWH, 3),
            ]
        rows.append(("balance", balances[:-1], UTOK_PER_TOKEN, 3))
        units = [f"energy in kWh, balances in token (DSO: {number(balances[-1] / UTOK_PER_TOKEN)})"]
        if self.params.num_stations > MAX_NAMED:
            spread = [(name, extremes(values / unit, "station")) for name, values, unit, _ in rows]
            return [line for name, parts in [*spread, ("", units)] for line in labelled(name, parts)]
        count = range(self.params.num_stations)
        table = [("station", [str(index) for index in count])]
        table += [(name, [number(value / unit, digits) for value in values]) for name, values, unit, digits in rows]
        lines = [f"{name:<{LABEL}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells) for name, cells in table]
        return [*lines, *labelled("", units)]


def _say(axes: Axes, words: str) -> None:
    """Words in place of a chart."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", transform=axes.transAxes, color="0.4")


def view_of(env: BatchedEVQuota, lane: int = 0) -> QuotaView:
    """A view of one lane of an environment, for `EnvEntry.view`."""
    return QuotaView(env.params, env.scenario.start_slot, lane)

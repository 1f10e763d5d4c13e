"""AggregatorAuction as something to look at: the auctions of the hour just settled and the accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridmarl.clearing.pairwise import Trades
from gridmarl.envs.aggregator_auction.actions import Orders
from gridmarl.envs.aggregator_auction.params import AggregatorAuctionParams
from gridmarl.envs.aggregator_auction.state import State
from gridmarl.envs.aggregator_auction.step import Settled
from gridmarl.envs.rendering.amounts import energy_text, price_text
from gridmarl.envs.rendering.auction import AuctionBook, draw_auction
from gridmarl.envs.rendering.host import Integers, checked_lane, on_host
from gridmarl.envs.rendering.panels import draw_balances, emptied_axes, small_print
from gridmarl.envs.rendering.text import extremes, labelled, number
from gridmarl.errors import ConfigError
from gridmarl.units import UTOK_PER_TOKEN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gridmarl.envs.aggregator_auction.batched import BatchedAggregatorAuction

_PLACES = ((0.075, 0.58, 0.40, 0.26), (0.565, 0.58, 0.425, 0.26), (0.075, 0.13, 0.915, 0.27))
DIRECTIONS = ("up", "down")


def book_of(orders: Orders, trades: Trades, hour: int, lane: int = 0) -> AuctionBook:
    """One lane's auction of a settled hour, on the host."""
    checked_lane(lane, orders.bid_wh.shape[1])
    return AuctionBook(
        bid_price=on_host(orders.bid_price[:, lane]),
        bid_wh=on_host(orders.bid_wh[:, lane]),
        bid_fill_wh=on_host(trades.buy_fill_wh[:, lane]),
        payment_utok=on_host(trades.payment_utok[:, lane]),
        offer_price=on_host(orders.ask_price[:, lane]),
        offer_wh=on_host(orders.ask_wh[:, lane]),
        start=hour,
    )


class AuctionView:
    """One lane's episode so far; `gridmarl.envs.rendering.screen.Screen` shows it.

    `start` with the state after a reset, then `record` with each settled hour.
    """

    def __init__(self, params: AggregatorAuctionParams, lane: int = 0) -> None:
        self.params, self.lane = params, lane
        self.last: Settled | None = None
        """The hour settled last."""
        self._balances: Integers | None = None

    def start(self, state: State) -> None:
        """Begin an episode."""
        self.last, self._balances = None, on_host(state.balances[:, self.lane])

    def record(self, settled: Settled) -> None:
        """Add a settled hour."""
        self.last, self._balances = settled, on_host(settled.balances[:, self.lane])

    def books(self) -> list[AuctionBook]:
        """The auctions up and, with requests, down of the hour settled last; none before."""
        now = self.last
        if now is None:
            return []
        pairs = ((now.up_orders, now.up), (now.down_orders, now.down))
        return [book_of(*pair, now.hour, self.lane) for pair in pairs[: 1 + self.params.has_requests]]

    def _started(self) -> Integers:
        if self._balances is None:
            raise ConfigError("render: there is no episode yet, call reset() first")
        return self._balances

    def draw(self, figure: Figure) -> None:
        """The frame: auctions above, accounts below."""
        tokens, buyers = self._started() / UTOK_PER_TOKEN, self.params.num_aggregators
        with small_print():
            *auctions, accounts = emptied_axes(figure, _PLACES)
            figure.text(0.01, 0.985, self.headline(), va="top", fontsize=10, fontweight="bold")
            for axes in auctions:
                axes.set_axis_off()
            for axes, book, direction in zip(auctions, self.books(), DIRECTIONS, strict=False):
                if book.is_empty:
                    axes.text(0.5, 0.5, f"{direction}: no bids, no offers", ha="center", transform=axes.transAxes)
                    continue
                axes.set_axis_on()
                draw_auction(axes, book, (0, self.params.cap_utok_per_wh))
                axes.set_xlabel(f"energy {direction}, kWh in the hour")
            draw_balances(accounts, tokens[buyers:-1], [("aggregators", float(tokens[:buyers].sum()))])
            accounts.set_xlabel(f"balance of each prosumer, token (system operator: {number(tokens[-1], 0)})")

    def headline(self) -> str:
        """Which hour, and its imbalance prices."""
        now = self.last
        if now is None:
            return f"Before the first of {self.params.horizon_hours} hours"
        short, long = (price_text(int(price[self.lane])) for price in (now.short_price, now.long_price))
        return (
            f"Hour {now.hour + 1} of {self.params.horizon_hours}: {self.params.payment_rule}; imbalance costs {short}, "
            f"earns {long} token/kWh"
        )

    def text(self) -> str:
        """The frame as lines."""
        balances, buyers = self._started() / UTOK_PER_TOKEN, self.params.num_aggregators
        lines = [f"AggregatorAuction  {self.headline()}"]
        for direction, book in zip(DIRECTIONS, self.books(), strict=False):
            bids, offers, traded = (
                energy_text(int(energy)) for energy in (book.bid_wh.sum(), book.offer_wh.sum(), book.volume_wh)
            )
            price = price_text(book.mean_price_utok_per_wh)
            lines += labelled(direction, [f"bids {bids}", f"offers {offers}", f"traded {traded} kWh at {price}"])
        lines += labelled("balance", [f"aggregators {number(balances[:buyers].sum())}"])
        lines += labelled("", extremes(balances[buyers:-1], "prosumer"))
        return "\n".join([*lines, *labelled("", [f"system operator {number(balances[-1])} token"])])


def view_of(env: BatchedAggregatorAuction, lane: int = 0) -> AuctionView:
    """A view of one lane of an environment."""
    return AuctionView(env.params, lane)

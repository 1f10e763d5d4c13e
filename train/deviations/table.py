"""Exploitability as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from gridmarl.train.deviations.exploitability import Exploitability, Gain

WORST_SHOWN = 1
_METHODS = {
    "stationary": "fixed change of the own bids, chosen on other episodes: a lower bound of the best response's gain",
    "clairvoyant": "hour by hour with knowledge of the draws",
    "learned": "a learner trained against the others, on held-out episodes: a lower bound",
}
_EXACT = "an upper bound if the policy reads no earlier prices"
_NO_BOUND = "no bound for who does not know the draws, hours being linked or uncertain"
NOTES = (
    "gain: of one prosumer that deviates alone from the row's policy, tokens per episode; ± is the 95 % interval",
    "sum: over prosumers (NashConv); of profit: share of what they get anyway, the worth of their consumption included",
)


def _number(value: float) -> str:
    text = f"{value:,.1f}"
    return "0.0" if text == "-0.0" else text


def _with_interval(mean: float, width: float) -> str:
    return f"{_number(mean)} ± {_number(width)}" if width else _number(mean)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.2f} %"


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, heading in enumerate(columns):
        left = index < 2
        # a digit that does not fit goes to the next line; an ellipsis would lose it
        table.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=left)
    return table


def totals_table(title: str, results: Mapping[str, Exploitability]) -> Table:
    """A line per row and method: sum, mean and greatest gain over prosumers."""
    table = _table(title, ("", "found by", "sum of gains\ntoken", "mean\ntoken", "greatest\ntoken", "sum of\nprofit"))
    for name, result in results.items():
        for method, total in result.totals.items():
            table.add_row(
                name,
                method,
                _with_interval(total.nash_conv_tok, total.interval_tok),
                _number(total.mean_tok),
                _number(total.max_tok),
                _percent(total.share_of_profit),
            )
            name = ""
    return table


def deviations_table(title: str, results: Mapping[str, Exploitability]) -> Table:
    """The greatest gains of each row, and by which deviation."""
    table = _table(title, ("", "prosumer, found by", "gain, token"))
    table.add_column("deviation", ratio=1)
    for name, result in results.items():
        gains = [(item.name, method, gain) for item in result.prosumers for method, gain in item.gains.items()]
        for method in result.totals:
            of_method = [item for item in gains if item[1] == method]
            for prosumer, _, gain in sorted(of_method, key=_largest_first)[:WORST_SHOWN]:
                label = f"{prosumer.removeprefix('prosumer_')}, {method}"
                table.add_row(name, label, _with_interval(gain.gain_tok, gain.interval_tok), gain.deviation)
                name = ""
    return table


def _largest_first(item: tuple[str, str, Gain]) -> float:
    return -item[2].gain_tok


def print_exploitability(
    console: Console, results: Mapping[str, Exploitability], of: str = "", *, deviations: bool = True
) -> None:
    """Tables of some rows, and what their columns mean.

    Args:
        results: by name of the row (policy).
        of: ends the titles, such as "dr_settlement = additive".
        deviations: the second table, too: the greatest gains and their deviations in words.
    """
    if not results:
        return
    ending = f", {of}" if of else ""
    console.print(totals_table(f"Exploitability{ending}", results))
    if deviations:
        console.print(deviations_table(f"Greatest gains by deviating alone{ending}", results))
    methods = [method for method in _METHODS if any(method in result.totals for result in results.values())]
    for note in NOTES:
        console.print(note, style="dim", highlight=False, markup=False)
    for method in methods:
        note = _METHODS[method]
        if method == "clairvoyant":
            note += f": {_EXACT if all(result.separable for result in results.values()) else _NO_BOUND}"
        console.print(f"{method}: {note}", style="dim", highlight=False, markup=False)

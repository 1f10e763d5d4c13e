"""Files of `gridmarl reproduce ch9 --out`: the page, the cells as CSV, everything as JSON, the auction as a figure."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from gridmarl.train.checkpoint import write_atomically
from gridmarl.train.reproduce import ch9_model as model
from gridmarl.train.reproduce import ch9_search as search
from gridmarl.train.reproduce.ch9_cells import Cell, all_cells
from gridmarl.train.reproduce.ch9_claim import best_statements, limits
from gridmarl.train.reproduce.ch9_printed import BUYERS, SELLERS, Station
from gridmarl.train.reproduce.ch9_report import page
from gridmarl.train.run_folder import write_json

BID, OFFER, PAIR, ONE_PRICE = "#0072B2", "#D55E00", "#009E73", "#000000"  # Okabe-Ito


def write_files(folder: Path) -> list[Path]:
    """Write all files into a folder, which is made if it is not there; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("ch9.md", "ch9_cells.csv", "ch9.json", "ch9_auction.png")]
    write_atomically(paths[0], page().encode())
    write_atomically(paths[1], _csv(all_cells()).encode())
    write_json(paths[2], _plain(everything()))
    draw_auction(paths[3])
    return paths


def _csv(cells: list[Cell]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [item.name for item in fields(Cell)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(cell) for cell in cells)
    return buffer.getvalue()


def everything() -> dict[str, Any]:
    """Cells, all assumptions tried, the auction and the claim, with exact fractions."""
    return {
        "cells": [asdict(cell) for cell in all_cells()],
        "trials": [asdict(trial) for trial in (*search.quota_trials(), *search.fee_trials(), *search.payment_trials())],
        "margin_kw": {"quotas": search.margins_of_quotas(), "fees": search.margins_of_fees()},
        "pairs": [asdict(pair) for pair in model.pairs()],
        "auctions": {rule: asdict(model.auction(rule)) for rule in model.RULES},
        "gains_tok": {rule: model.gains_tok(rule) for rule in model.RULES},
        "single_corrections": [asdict(each) for each in search.single_corrections()],
        "best_statements": {
            rule: [asdict(each) for each in best_statements(rule)] for rule in ("pairwise", "marginal_pair")
        },
        "limits": [asdict(limit) for limit in limits()],
    }


def _plain(value: Any) -> Any:
    """Fractions as numbers."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def draw_auction(path: Path) -> None:
    """Bids and offers as steps, each pair at its price, and the one price of Fig. 1."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    _steps(axis, sorted(BUYERS, key=lambda each: -each.price_tok_per_kwh), "bids", BID, 1)
    _steps(axis, sorted(SELLERS, key=lambda each: each.price_tok_per_kwh), "offers", OFFER, -1)
    begin = 0.0
    for place, pair in enumerate(model.pairs()):
        end, price = begin + float(pair.energy_kwh), float(pair.price)
        label = "" if place else "pairs, Algorithm 1"
        axis.plot((begin, end), (price, price), color=PAIR, linewidth=4, solid_capstyle="butt", label=label)
        far = end - begin < 1  # too short for its name
        axis.annotate(
            f"{pair.buyer}-{pair.seller} {price:g}",
            ((begin + end) / 2, price),
            xytext=(24, 36) if far else (0, -4),
            textcoords="offset points",
            ha="center",
            va="bottom" if far else "top",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.6} if far else None,
        )
        begin = end
    one = float(model.price_tok_per_kwh("marginal_pair"))
    axis.plot((0, begin), (one, one), color=ONE_PRICE, linestyle="--", linewidth=1, label=f"one price, Fig. 1: {one:g}")
    axis.margins(y=0.08)
    axis.axvline(begin, color="0.7", linewidth=0.8)
    axis.annotate(
        f"{begin:.1f} kWh", (begin, axis.get_ylim()[0]), xytext=(3, 3), textcoords="offset points", fontsize=8
    )
    axis.set_xlabel("cumulative quantity in kWh")
    axis.set_ylabel("token/kWh")
    axis.set_xlim(0, None)
    axis.grid(alpha=0.25)
    axis.set_title("Chapter 9, orders of Table 3", fontsize=10)
    figure.legend(loc="outside lower center", fontsize=8, ncols=4, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _steps(axis: Axes, stations: list[Station], label: str, colour: str, above: int) -> None:
    """One side of the book; the station's name at its step."""
    edges, prices = [0.0], [float(station.price_tok_per_kwh) for station in stations]
    for station in stations:
        edges.append(edges[-1] + float(station.order))
        middle = (edges[-1] + edges[-2]) / 2
        axis.annotate(
            station.name,
            (middle, station.price_tok_per_kwh),
            xytext=(0, 4 * above),
            textcoords="offset points",
            ha="center",
            va="bottom" if above > 0 else "top",
            color=colour,
            weight="bold",
        )
    axis.stairs(prices, edges, baseline=None, color=colour, linewidth=1.5, label=label)

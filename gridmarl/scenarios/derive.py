"""Derive the packaged tables from the public files: `python -m gridmarl.scenarios.derive`.

Deterministic: the same files give the same bytes. No raw data is copied, only quantile bins, counts and means.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gridmarl.errors import DataError, GridmarlError
from gridmarl.scenarios.aemo import hourly, load_prices
from gridmarl.scenarios.calibrate import KINDS, HomeTables, calibrate_homes, forecast_errors, representatives
from gridmarl.scenarios.files import show
from gridmarl.scenarios.homes import Homes, load_homes
from gridmarl.scenarios.roulette import EDGES_PERMILLE, build_wheel
from gridmarl.scenarios.tables import Tables, write_tables

HOMES_WITHOUT_PV = 4

ATTRIBUTION_PRICES = (
    "Wholesale prices: AEMO, Aggregated price and demand data, NEM; used under AEMO's copyright permissions "
    "(any purpose, with attribution)."
)
ATTRIBUTION_HOMES = (
    "Homes with PV: Ausgrid, Solar home electricity data, CC BY; extract, converted to AEST, averaged.",
    "Homes without PV: Smart-Grid Smart-City Customer Trial Data, (c) Commonwealth of Australia, CC BY 3.0 AU; homes "
    "selected, summed, identifiers removed, averaged.",
)

README = """\
# Packaged scenario tables

Written by `python -m gridmarl.scenarios.derive`; do not edit by hand. Units: Wh, µtok/Wh with 1 token = 0.01 AUD
(1 AUD/MWh = 100 µtok/Wh). Times are NEM time (UTC+10, no daylight saving). Hour 0 is the one that ends at 01:00.

* `price_wheel.csv`: {region}, {first} .. {last}; per hour of the day {bins} bins of the hourly price: mean,
  hours in the bin (`weight`), and how often the hour before fell into bin j (`after_j`).
* `homes.csv`: mean load and PV of {homes} homes by day kind (season x weekday or weekend) and hour.
* `manifest.json`: reference price (mean of the history), days of each kind, ratio tables, attribution.
* `ev_sessions.json`: EV charging sessions, written by `python -m gridmarl.scenarios.ev_calibrate`.

## Derivation

* Prices are integers; an hour is the floor of the mean of its half hours. Other means are rounded to nearest, halves
  up.
* Bin edges of each hour of the day: quantiles {edges} permille of its prices.
  They are unequal so that the tails keep bins of their own; nothing is clipped.
* The carbon price of those years (about +20 AUD/MWh) is included.
* Homes with PV: {with_pv}.
* Homes without PV: {chosen}. They stand at the middle of {without} equal slices of the
  ranking by annual energy. They are spread between the others, so that small communities are mixed.
* PV is averaged by season (the weather knows no weekends).
* `load_ratio_permille`: an hour's load over the mean of its home, day kind and hour, pooled: {load_ratios} equally
  likely bins, each its mean; together they average to exactly 1000.
* `pv_ratio_permille`: a day's PV over its season's mean day, summed over the homes with PV: {pv_ratios} bins likewise.
* `forecast_error_permille`: {errors} normal quantiles, symmetric, rescaled to a standard deviation of 1000; not from
  data.

## Attribution

{attribution}
"""


def derive(
    price_files: Sequence[Path | str], home_files: Sequence[Path | str], out: Path, region: str = "NSW1"
) -> None:
    """Write `price_wheel.csv`, `homes.csv`, `manifest.json` and `README.md` into `out`.

    Household files are calibrated one by one, since they may cover different periods; the first sets the day kinds.

    Raises:
        DataError: whatever the loaders find wrong, no home with PV, or too few without.
    """
    half_hours = load_prices(price_files, region)
    wheel = build_wheel(hourly(half_hours))
    parts, with_pv, chosen = _select([load_homes([path]) for path in home_files])
    homes = _interleave(calibrate_homes(parts), with_pv, chosen)
    attribution = [ATTRIBUTION_PRICES, *ATTRIBUTION_HOMES]
    errors = forecast_errors()
    manifest = {
        "name": f"{region.lower()}-2012-2013",
        "attribution": attribution,
        "attribution_homes": list(ATTRIBUTION_HOMES),
        "region": region,
        "prices_from": show(half_hours.index[0]),
        "prices_to": show(half_hours.index[-1]),
        "reference_price_utok_per_wh": wheel.reference_price_utok_per_wh,
        "edges_permille": list(EDGES_PERMILLE),
        "homes": list(homes.names),
        "day_kinds": list(KINDS),
        "kind_days": homes.kind_days.tolist(),
        "load_ratio_permille": homes.load_ratio_permille.tolist(),
        "pv_ratio_permille": homes.pv_ratio_permille.tolist(),
        "forecast_error_permille": errors.tolist(),
    }
    tables = Tables(
        price_value=wheel.value_utok_per_wh.tolist(),
        price_weight=wheel.weight.tolist(),
        price_after=wheel.after.tolist(),
        load_wh=homes.load_wh.tolist(),
        pv_wh=homes.pv_wh.tolist(),
        manifest=manifest,
    )
    write_tables(out, tables, ["Derived by gridmarl.scenarios.derive; see README.md of this folder.", *attribution])
    readme = README.format(
        region=region,
        first=show(half_hours.index[0]),
        last=show(half_hours.index[-1]),
        bins=len(EDGES_PERMILLE) + 1,
        homes=len(homes.names),
        edges=", ".join(map(str, EDGES_PERMILLE)),
        with_pv=", ".join(with_pv),
        without=len(chosen),
        chosen=", ".join(chosen),
        load_ratios=len(homes.load_ratio_permille),
        pv_ratios=len(homes.pv_ratio_permille),
        errors=len(errors),
        attribution="\n".join(f"* {line}" for line in attribution),
    )
    (out / "README.md").write_text(readme, encoding="utf-8", newline="\n")


def _select(series: Sequence[Homes]) -> tuple[list[Homes], list[str], list[str]]:
    """The homes to keep: all with PV, and representatives of each file that has none; parts with PV first."""
    parts: list[Homes] = []
    with_pv: list[str] = []
    chosen: list[str] = []
    for homes in series:
        sunny = [name for name in homes.names if int(homes.pv_wh[name].sum()) > 0]
        if sunny:
            parts.insert(len(parts) - bool(chosen), Homes(homes.load_wh[sunny], homes.pv_wh[sunny], tuple(sunny)))
            with_pv += sunny
        elif chosen:
            raise DataError("homes: more than one file without PV; give one")
        else:
            parts.append(representatives(homes, HOMES_WITHOUT_PV))
            chosen += parts[-1].names
    if not with_pv or not chosen:
        raise DataError("homes: give files with PV and one without")
    return parts, with_pv, chosen


def _interleave(tables: HomeTables, with_pv: Sequence[str], without: Sequence[str]) -> HomeTables:
    """The homes without PV spread evenly between the others."""
    slots = [((i + 1) / (len(names) + 1), name) for names in (with_pv, without) for i, name in enumerate(names)]
    names = [name for _, name in sorted(slots)]
    order = [tables.names.index(name) for name in names]
    return tables._replace(names=tuple(names), load_wh=tables.load_wh[:, :, order], pv_wh=tables.pv_wh[:, :, order])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 2 and one line on standard error if the input is at fault."""
    parser = argparse.ArgumentParser(prog="python -m gridmarl.scenarios.derive", description=__doc__)
    parser.add_argument("--prices", nargs="+", required=True, metavar="FILE", help="AEMO price files or a folder")
    parser.add_argument("--homes", nargs="+", required=True, metavar="FILE", help="household files")
    parser.add_argument("--region", default="NSW1")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        derive(options.prices, options.homes, options.out, options.region)
    except GridmarlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

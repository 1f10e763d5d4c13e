"""`gridmarl compare p2p`: no trade, full, community-based and hybrid peer-to-peer and the aggregator, side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console

from gridmarl.errors import ConfigError
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.options import MAX_DAYS, MarketOptions, check_range, parse_settings, read_config
from gridmarl.train.p2p.figure import bills_figure, load_figure
from gridmarl.train.p2p.forms import HYBRID, STAGES, AllForms, play_forms
from gridmarl.train.p2p.homes import Homes, draw_homes
from gridmarl.train.p2p.params import P2PParams
from gridmarl.train.p2p.rows import P2PRow, form_rows
from gridmarl.train.p2p.tables import print_rows, write_rows
from gridmarl.train.run_folder import describe_run, describe_scenario, write_json
from gridmarl.train.stage_bar import stage_bar
from gridmarl.train.tables import results_console
from gridmarl.train.train_options import evaluation_seed
from gridmarl.units import PERMILLE, UTOK_PER_TOKEN

if TYPE_CHECKING:
    from gridmarl.train.compare import Compare

COMPARISON = "p2p"
"""What stands in place of an environment on the command line."""
_DRAWN_LIKE = "two-stage-dr"
"""The environment whose homes and prices these are."""
_USED = {item.name for item in fields(MarketOptions)} | {"lanes"}
"""Options of the command that this comparison has a use for."""


@dataclass
class P2PComparison:
    """All that a comparison found; bills and loads by form, means over episodes."""

    rows: list[P2PRow]
    sharing_rows: list[P2PRow]
    """The community under each sharing rule."""
    bills_tok_per_day: dict[str, list[float]]
    net_load_kwh: dict[str, list[float]]
    least_cost_tok_per_day: float
    hours_checked: int
    """Hours of each form in which neither a µtok nor a Wh was missing."""
    battery_homes: list[bool] = field(default_factory=list)


def compare_p2p(options: Compare) -> int:
    """Run the comparison; writes config.json, metrics.csv, summary.json and figures/. Exit code 0, or 130 after Ctrl-C.

    Raises:
        ConfigError: an option that is not allowed, or that this comparison does not use.
        DataError: files that do not cover the episodes.
    """
    _refuse_foreign(options)
    options.check()
    torch.set_num_threads(options.threads)
    windows, lanes = options.start is not None, options.episodes
    if windows:
        check_range("days * lanes", options.num_days * lanes, 1, MAX_DAYS)
    drawn_from = replace(options, days=options.num_days * lanes) if windows else options
    scenario = drawn_from.scenario()
    params = _parameters(options, scenario)
    homes = draw_homes(params, scenario, lanes, evaluation_seed(options.seed), windows=windows)
    folder = replace(options, env=_DRAWN_LIKE).folder(COMPARISON)
    _remove_earlier(folder)
    about = {"command": "compare", **describe_run(options), "params": params.to_dict()}
    write_json(
        folder / "config.json",
        about | {"scenario": describe_scenario(options, scenario), "attribution": scenario.attribution},
    )
    try:
        with stage_bar("forms", STAGES, "stages", options.progress) as advance:
            forms = play_forms(homes, params, advance)
    except KeyboardInterrupt:
        return 130
    _report(folder, results_console(), _found(homes, forms), _notes(params, homes, scenario, windows))
    return 0


def _remove_earlier(folder: Path) -> None:
    """What an earlier comparison left in the same folder, so that nothing of it passes for a result of this one."""
    for pattern in ("metrics.csv", "summary.json", "figures/*.png"):
        for path in folder.glob(pattern):
            path.unlink()


def _refuse_foreign(options: Compare) -> None:
    """What this comparison does not use is not silently left out."""
    for item in fields(options):
        if item.name not in _USED and getattr(options, item.name) != item.default:
            raise ConfigError(
                f"{item.name} with {COMPARISON}: nothing is trained and no ledger is written; allowed are --prices, "
                "--homes, --region, --scenario, --start, --days, --lanes, --seed, --set and --config"
            )
    if options.device != "cpu":
        raise ConfigError(f"device: {options.device!r} with {COMPARISON}, allowed is cpu")


def _parameters(options: Compare, scenario: Scenario) -> P2PParams:
    values: dict[str, Any] = {}
    if options.homes:  # all of them, with photovoltaics as they were
        values = {"num_prosumers": scenario.num_homes, "pv_scale_permille": PERMILLE}
    values |= read_config(options.config) | parse_settings(options.set)
    return P2PParams.from_dict(values, 24 * options.num_days)


def _found(homes: Homes, forms: AllForms) -> P2PComparison:
    hours, _, lanes = homes.load_wh.shape
    days = hours / 24
    return P2PComparison(
        rows=form_rows(homes, forms, forms.played),
        sharing_rows=form_rows(homes, forms, forms.by_sharing),
        bills_tok_per_day={
            form.name: (form.bill_utok.mean(1) / UTOK_PER_TOKEN / days).tolist() for form in forms.played
        },
        net_load_kwh={form.name: (form.net_wh.sum(1).mean(1) / 1_000).tolist() for form in forms.played},
        least_cost_tok_per_day=float(forms.least_cost_utok.mean()) / UTOK_PER_TOKEN / days,
        hours_checked=hours * lanes,
        battery_homes=homes.owners.tolist(),
    )


def _notes(params: P2PParams, homes: Homes, scenario: Scenario, windows: bool) -> list[str]:
    hours, count, lanes = homes.load_wh.shape
    episodes = f"{lanes} episodes of {hours} hours" + (", recorded days one after the other" if windows else "")
    owners = int(np.count_nonzero(homes.owners))
    battery = "no batteries"
    if homes.storage is not None:
        size = f"{homes.storage.capacity_wh / 1_000:g} kWh, {homes.storage.power_w / 1_000:g} kW"
        who = "whoever decides on them plans" if params.dispatch == "plan" else "self-consumption, without a plan"
        battery = f"batteries of {size} at {owners} of them ({who})"
    return [
        f"{count} homes, {battery}; {episodes}",
        f"sharing inside communities: {params.sharing}; {HYBRID}: communities of {params.community_sizes} homes",
        f"conservation: 0 µtok and 0 Wh missing in each of {hours * lanes} hours of every form",
        f"scenario {scenario.name}: {scenario.attribution}",
    ]


def _report(folder: Path, console: Console, found: P2PComparison, notes: list[str]) -> None:
    write_rows(folder / "metrics.csv", found.rows)
    write_json(folder / "summary.json", asdict(found))
    bills_figure(folder / "figures" / "bills.png", found.bills_tok_per_day, found.battery_homes)
    load_figure(folder / "figures" / "load.png", found.net_load_kwh)
    print_rows(console, found.rows, found.sharing_rows, notes)
    console.print(f"Results in {folder}", highlight=False, soft_wrap=True)

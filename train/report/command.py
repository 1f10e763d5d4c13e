"""`gridmarl report`: one self-contained HTML page about runs and comparisons."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import tyro

from gridmarl.errors import ConfigError
from gridmarl.train.checkpoint import write_atomically
from gridmarl.train.options import MAX_LANES, MAX_THREADS, MarketOptions, check_range, checked_device
from gridmarl.train.runs import Kept

if TYPE_CHECKING:
    from gridmarl.train.report.blocks import Content

OUT_FILE = "report.html"


@dataclass(kw_only=True)
class Report:
    """Write one HTML page about runs: learning curves, comparison, prices, loads, market curves, balances, ledgers.

    The policies play their held-out episodes once more, and the ledgers are verified again. The page needs no network
    and no other file."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of `gridmarl train`, finished or not, and of `gridmarl compare`."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """File to write; default: report.html in the first folder."""
    lanes: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Held-out episodes; default: as many as the run's own comparison had."""
    hours: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N [N ...]", help_behavior_hint="")] = ()
    """Hours of the episode, from 0, whose market curves are drawn (of charging stations: half hours); default: of the
    greatest shortage, the greatest surplus and the widest gap between market price and billing cost."""
    checkpoint: Kept = "last"
    """last: the policy at the end of training; best: that of the best evaluation."""
    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "cpu"
    """Torch device, e.g. cpu or cuda."""
    threads: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """CPU threads of torch."""
    progress: Literal["auto", "on", "off"] = "auto"
    """Progress bars on standard error; auto: on a terminal, for what takes over two seconds."""

    def check(self) -> None:
        """Refuse what is wrong in itself; ConfigError names the option, the value seen and what is allowed."""
        if not self.runs:
            raise ConfigError("runs: none given; allowed are one or more folders of runs")
        if len({path.resolve() for path in self.runs}) < len(self.runs):
            raise ConfigError(f"{' '.join(map(str, self.runs))}: one of them twice; allowed is each only once")
        if self.lanes is not None:
            check_range("lanes", self.lanes, 1, MAX_LANES)
        check_range("threads", self.threads, 1, MAX_THREADS)
        checked_device(self.device)

    def file(self) -> Path:
        """Where the page goes; ConfigError where it cannot be written."""
        path = self.out or self.runs[0] / OUT_FILE
        folder = path.absolute().parent
        if path.is_dir() or not folder.is_dir():
            raise ConfigError(f"out: {path}, allowed is a file in a folder that exists")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"out: {path} cannot be written; allowed is --out with a file in a folder of your own")
        return path

    def command(self) -> str:
        """What makes the page again, beside the folders."""
        words = ["gridmarl", "report", *(path.resolve().name for path in self.runs)]
        words += [] if self.lanes is None else ["--lanes", str(self.lanes)]
        words += ["--hours", *map(str, self.hours)] if self.hours else []
        words += [] if self.checkpoint == "last" else ["--checkpoint", self.checkpoint]
        return shlex.join(words)

    def run(self) -> int:
        """Write the page; exit code 0, or 1 if a ledger does not verify (the page says which)."""
        from gridmarl.train.report.page import render_page
        from gridmarl.train.report.source import Wanted, read_sources

        self.check()
        torch.set_num_threads(self.threads)
        sources = read_sources(self.runs)
        path = self.file()
        entry = sources.market()
        market = MarketOptions(env=entry.env, device=self.device, threads=self.threads, progress=self.progress)
        wanted = Wanted(market, self.command(), self.lanes, self.hours, self.checkpoint)
        content: Content = entry.load("report")(sources, wanted)
        page = render_page(content).encode()
        write_atomically(path, page)
        for warning in content.warnings:
            print(warning)
        print(f"{path}: {len(page):,} bytes")
        return 1 if content.warnings else 0

"""`gridmarl reproduce`: what a chapter prints, beside what we compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gridmarl.errors import ConfigError
from gridmarl.train.tables import results_console


@dataclass
class Reproduce:
    """Set every printed number of a chapter beside ours, with the arithmetic behind each that differs."""

    chapter: tyro.conf.Positional[Literal["ch9"]]
    """ch9: the charging-quota auction (Tables 2, 3, 4 and Fig. 3)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder for the page, the cells (CSV), everything (JSON) and a figure; default: print only."""

    def run(self) -> int:
        """Print the report, then write the files; exit code 0."""
        from gridmarl.train.reproduce.ch9_report import sections
        from gridmarl.train.reproduce.document import print_sections

        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"out: {self.out} is a file, allowed is a folder")
        console = results_console()
        print_sections(console, sections())
        if self.out is not None:
            from gridmarl.train.reproduce.ch9_files import write_files

            for path in write_files(self.out):
                console.print(f"{path}: {path.stat().st_size:,} bytes", highlight=False, markup=False, soft_wrap=True)
        return 0

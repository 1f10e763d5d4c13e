"""Ledger files of a report: each is hashed and replayed again for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridmarl.errors import LedgerError
from gridmarl.ledger import verify
from gridmarl.train.report.blocks import Cells, Folded, Paragraph, Section, Table
from gridmarl.train.runs import Run

LEDGER_FILE = "ledger.bin"
NOT_DEFINED = "n/a"


def seed_folders(named: Mapping[str, Run]) -> dict[str, Path]:
    """The folder of each seed, by what a table calls it."""
    return {
        f"{name}, seed {seed.seed}" if len(run.seeds) > 1 else name: seed.folder
        for name, run in named.items()
        for seed in run.seeds
    }


def ledger_files(named: Mapping[str, Run]) -> dict[str, Path]:
    """Those of the seeds that have one."""
    files = {name: folder / LEDGER_FILE for name, folder in seed_folders(named).items()}
    return {name: path for name, path in files.items() if path.is_file()}


def without_ledger(named: Mapping[str, Run]) -> str:
    """A sentence on the seeds that have none; empty if all have one."""
    without = [name for name, folder in seed_folders(named).items() if not (folder / LEDGER_FILE).is_file()]
    return f"No ledger: {'; '.join(without)}." if without else ""


@dataclass(frozen=True)
class LedgerCheck:
    """What `gridmarl ledger verify` says of a file now."""

    line: tuple[str, ...]
    ok: bool
    energy_wh: Mapping[str, int]

    COLUMNS = ("ledger", "verification", "blocks", "transactions", "residual", "head hash (BLAKE3)")


def check_ledger(name: str, path: Any) -> LedgerCheck:
    """Re-hash and replay one ledger file."""
    try:
        verdict = verify(path)
    except LedgerError as error:
        return LedgerCheck((name, f"NOT VERIFIED: {error}", *[NOT_DEFINED] * 4), False, {})
    state = "verified" if verdict.ok else f"NOT VERIFIED: {verdict.error or 'money was made or lost'}"
    counts = (f"{verdict.blocks:,}", f"{verdict.transactions:,}", f"{verdict.residual_utok} µtok")
    return LedgerCheck((name, state, *counts, verdict.head), verdict.ok, verdict.energy_totals)


def ledger_table(checks: Sequence[LedgerCheck]) -> Cells:
    """A line for each file."""
    return Cells("", LedgerCheck.COLUMNS, [item.line for item in checks], left=frozenset({0, 1, 5}))


def energy_table(checks: Sequence[LedgerCheck]) -> Cells | None:
    """What the replay of each file added up; None where there is nothing."""
    names = list(dict.fromkeys(name for item in checks for name in item.energy_wh))
    lines = [(item.line[0], *(f"{item.energy_wh.get(name, 0):,}" for name in names)) for item in checks]
    return Cells("", ("ledger", *names), lines) if names else None


def warnings_of(checks: Sequence[LedgerCheck]) -> list[str]:
    """A line for each file that does not verify."""
    return [f"{check.line[0]}: {check.line[1]}" for check in checks if not check.ok]


def ledger_section(checks: Sequence[LedgerCheck], note: str, period: str = "hour") -> Section:
    """What the files are and whether they verify.

    Args:
        note: a sentence on what has none.
        period: what one block is of.
    """
    blocks: list[Paragraph | Table | Folded] = []
    if checks:
        told = f"One episode of each policy, sealed {period} by {period} into a chain of blocks; hashed and replayed"
        blocks += [Paragraph(f"{told} again for this page."), Table(ledger_table(checks), "Ledger files")]
        energy, title = energy_table(checks), "Energy in the ledgers"
        if energy is not None:
            blocks.append(Folded(title, [Table(energy, title)]))
    if note or not checks:
        blocks.append(Paragraph(note or "There is no ledger file."))
    return Section("ledger", "Ledger", blocks)

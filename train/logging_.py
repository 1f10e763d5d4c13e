"""Where metrics go: metrics.csv in the run folder (always) and TensorBoard event files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from gridmarl.errors import DataError, MissingExtraError
from gridmarl.train.checkpoint import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
STEP_COLUMN = "env_steps"


def read_metrics(run_dir: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv, oldest first; empty if there is none. A half-written last line is left out.

    Raises:
        DataError: the file's first column is not `env_steps`.
    """
    path = run_dir / METRICS_FILE
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(complete))
    if reader.fieldnames and reader.fieldnames[0] != STEP_COLUMN:
        raise DataError(f"{path}: first column is {reader.fieldnames[0]!r}; allowed is {STEP_COLUMN!r}")
    return list(reader)


class MetricsLog:
    """Appends one row per call, flushed at once; a new metric adds a column (the file is rewritten).

    Args:
        run_dir: existing folder.
        resume_step: rows after this step are dropped: they belong to what was lost, and will be made again.
        tensorboard: also write event files.

    Raises:
        MissingExtraError: `tensorboard` without the package.
    """

    def __init__(self, run_dir: Path, resume_step: int = 0, tensorboard: bool = True) -> None:
        self._path = run_dir / METRICS_FILE
        self._rows = [row for row in read_metrics(run_dir) if int(row[STEP_COLUMN]) <= resume_step]
        self._columns = list(self._rows[0]) if self._rows else [STEP_COLUMN]
        self._rewrite()
        self._file = self._path.open("a", encoding="utf-8", newline="")
        self._writer = _tensorboard_writer(run_dir, resume_step) if tensorboard else None

    def _rewrite(self) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, self._columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self._path, buffer.getvalue().encode())

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row, and one TensorBoard scalar per metric."""
        row = {STEP_COLUMN: str(step), **{name: repr(value) for name, value in metrics.items()}}
        self._rows.append(row)
        unseen = [name for name in row if name not in self._columns]
        if unseen:
            self._columns += unseen
            self._file.close()
            self._rewrite()
            self._file = self._path.open("a", encoding="utf-8", newline="")
        else:
            csv.DictWriter(self._file, self._columns, restval="", lineterminator="\n").writerow(row)
            self._file.flush()
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close both; the folder is complete and usable afterwards."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _tensorboard_writer(run_dir: Path, resume_step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "tensorboard is not installed: pip install tensorboard, or tensorboard=False"
        ) from error
    # Points after the checkpoint are hidden, as in metrics.csv.
    purge = resume_step + 1 if resume_step else None
    return SummaryWriter(run_dir / TENSORBOARD_FOLDER, purge_step=purge)

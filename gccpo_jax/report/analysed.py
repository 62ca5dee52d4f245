"""What an analysis left in its directory, as typed rows."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from gccpo_jax.analysis.report import TrajectoryReport
from gccpo_jax.errors import UserError, blame
from gccpo_jax.report.read import typed

FILE = "trajectories.jsonl"


@dataclasses.dataclass(frozen=True)
class Analysed:
    """Results of `python -m gccpo_jax.analyse --data`, complete or as far as they are."""

    name: str  # of the directory
    trajectories: tuple[TrajectoryReport, ...]  # those of a question one after the other
    gate: float | None  # mean reader gate of the trajectories; None: there are none
    summary: dict[str, Any] | None  # None: it has not ended


def is_analysis(directory: str | pathlib.Path) -> bool:
    """Whether `analyse` wrote there."""
    return (pathlib.Path(directory) / FILE).is_file()


def read_analysis(directory: str | pathlib.Path) -> Analysed:
    """Reads every analysed trajectory and the summary.

    Args:
      directory: what `analyse --out` named. One that goes on is read as far as it is written.
    Raises:
      UserError: not an analysis, a damaged file, or one of an older version.
    """
    where = pathlib.Path(directory)
    if not is_analysis(where):
        raise UserError(f"{where}: not an analysis (no {FILE}); give an --out of analyse --data")
    rows, gates = [], []
    with blame(where / FILE, "analyse it again, or take it from a copy"):
        for line in (where / FILE).read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # the last one may be half written
                row = json.loads(line)
                gates.append(float(row.pop("gate")))
                rows.append(typed(TrajectoryReport, row))
    file = where / "summary.json"
    summary = None
    if file.is_file():
        with blame(file, "analyse it again, or take it from a copy"):
            summary = json.loads(file.read_text(encoding="utf-8"))
    gate = sum(gates) / len(gates) if gates else None
    return Analysed(where.resolve().name, tuple(rows), gate, summary)

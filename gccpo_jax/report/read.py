"""What a run left in its directory, as typed rows."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from gccpo_jax.errors import UserError, blame
from gccpo_jax.training.rollout_record import VERSION, Arm, Branch, Step, Tokens, Trajectory

_AGAIN = "run it again with this version, or read it with the version that wrote it"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run, finished or not."""

    name: str  # of its directory
    config: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]  # a row per step; step 0 is the evaluation before
    trajectories: tuple[Trajectory, ...]  # in order of step, row and trajectory
    summary: dict[str, Any] | None  # None: it has not ended


def read_run(workdir: str | pathlib.Path) -> Run:
    """Reads the config, the metrics and every recorded trajectory of a run.

    Args:
      workdir: what `train --workdir` named. A run that goes on is read as far as it is written.
    Raises:
      UserError: not a run, a damaged file, or a record of another version.
    """
    where = pathlib.Path(workdir)
    if not (where / "config.json").is_file() or not (where / "metrics.jsonl").is_file():
        raise UserError(f"{where}: not a run (no config.json with metrics.jsonl); give a --workdir")
    with blame(where / "config.json", "take it from a copy"):
        config = json.loads((where / "config.json").read_text(encoding="utf-8"))
    with blame(where / "metrics.jsonl", "take it from a copy"):
        lines = (where / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        # The last line of a run that goes on may be half written.
        metrics = tuple(json.loads(line) for line in lines if line.endswith("\n"))
    file = where / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    rows = tuple(row for name in recorded(where) for row in read_file(name))
    return Run(where.resolve().name, config, metrics, rows, summary)


def recorded(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The files of recorded trajectories, in order of their steps.

    Raises:
      UserError: the run is older than the record.
    """
    directory = workdir / "rollouts"
    found = sorted(directory.glob("step_*.jsonl.gz"))
    if not found and any(directory.glob("step_*.jsonl")):
        raise UserError(f"{directory}: written before rollouts had a version; {_AGAIN}")
    return found


def read_file(file: pathlib.Path) -> list[Trajectory]:
    """The trajectories of one `step_<n>.jsonl.gz`.

    Raises:
      UserError: damaged, or of another version.
    """
    with blame(file, "take it from a copy, or leave it out"):
        rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
        for row in rows:
            if row.get("version") != VERSION:
                raise UserError(
                    f"{file}: version {row.get('version')} of the record, expected {VERSION}; "
                    f"{_AGAIN}"
                )
        return [_trajectory(row) for row in rows]


def _trajectory(row: dict[str, Any]) -> Trajectory:
    steps, tokens = row.pop("steps"), row.pop("tokens")
    return Trajectory(
        **_frozen(row, ("candidates", "law_before")),
        steps=None if steps is None else tuple(map(_step, steps)),
        tokens=Tokens(**_frozen(tokens, tokens)),
    )


def _step(row: dict[str, Any]) -> Step:
    arms, branches = row.pop("arms"), row.pop("branches")
    return Step(
        **_frozen(row, ("labels", "law")),
        arms=tuple(Arm(**_frozen(arm, ("law",))) for arm in arms),
        branches=tuple(Branch(**branch) for branch in branches),
    )


def _frozen(row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The row with the lists of some fields as tuples."""
    lists = {name: tuple(row[name]) for name in names if row[name] is not None}
    return {**row, **lists}

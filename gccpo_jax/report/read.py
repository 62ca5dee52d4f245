"""What a run left in its directory, as typed rows."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import pathlib
import types
import typing
from typing import Any

from gccpo_jax.errors import UserError, blame
from gccpo_jax.training.rollout_record import VERSION, Trajectory

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
        return [typed(Trajectory, row) for row in rows]


def typed(kind: Any, value: Any) -> Any:
    """A record of dataclasses, tuples and lists from its JSON, which has neither of the first two.

    >>> from gccpo_jax.training.rollout_record import Branch
    >>> typed(Branch | None, {"text": "so 7", "answer": "7", "score": None})
    Branch(text='so 7', answer='7', score=None)
    """
    if dataclasses.is_dataclass(kind):
        found = {name: typed(hint, value[name]) for name, hint in _hints(kind).items()}
        return kind(**{**value, **found})
    inner = typing.get_args(kind)
    if value is None or not inner:
        return value
    if isinstance(kind, types.UnionType):
        return typed(inner[0], value)
    if dataclasses.is_dataclass(inner[0]):
        value = (typed(inner[0], x) for x in value)
    return typing.get_origin(kind)(value)


_hints = functools.cache(typing.get_type_hints)

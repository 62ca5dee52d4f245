"""Runs the cells of a study as processes of their own; what is finished is not run again.

    <workdir>/
      plan.json        the plan
      cells/<name>/    a run's working directory, see runtime/workdir.py
      cells/<name>.log what it said
      results.jsonl    raw results, see results.py

A cell is finished when it has a `summary.json`. One that was interrupted goes on from its
newest checkpoint, so a study that was killed and started again has the same results.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.runtime.progress import Bar
from gccpo_jax.runtime.signals import Signals
from gccpo_jax.runtime.workdir import differences, locked, write_json
from gccpo_jax.study.plan import Cell, Study, cell, matched_updates, start_cell
from gccpo_jax.training.planning.tokens import at_the_limits

_POLL = 0.2  # seconds between looks at running cells
_FREE = ("log", "mesh")  # sections that may change between two starts


class Interrupted(Exception):
    """A signal ended a study; cells that were running have saved what they had done."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name}: stopped; the same command goes on")
        self.exit_code = 128 + number


@dataclasses.dataclass(frozen=True)
class Cells:
    """The finished cells of a study."""

    equal_updates: tuple[Cell, ...]
    equal_tokens: tuple[Cell, ...]  # of every arm and seed; empty if it was not asked for


def run_study(study: Study, workdir: pathlib.Path, jobs: int) -> Cells:
    """Runs every cell that is not finished, `jobs` at a time.

    Raises:
      UserError: a cell failed, its folder holds another configuration, or another process
        runs in `workdir`.
      Interrupted: a signal asked for the end.
    """
    (workdir / "cells").mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        write_json(workdir / "plan.json", dataclasses.asdict(study))
        starts = [start_cell(study, seed) for seed in study.seeds] if study.sft else []
        run_cells("start policies", starts, workdir, jobs)
        first = [cell_of(study, workdir, arm, seed) for seed in study.seeds for arm in study.arms]
        run_cells("equal updates", first, workdir, jobs)
        if not study.matched:
            return Cells(tuple(first), ())
        second = matched_cells(study, workdir, first)
        run_cells("equal tokens", second, workdir, jobs)
        return Cells(tuple(first), tuple(second))


def cell_of(
    study: Study, workdir: pathlib.Path, arm: str, seed: int, updates: int | None = None
) -> Cell:
    """The cell of an arm and a seed, from the policy that the seed starts from."""
    start = study.policy.replace("{seed}", str(seed))
    if study.sft:
        start = str(folder(workdir, start_cell(study, seed)) / "policy")
    return cell(study, arm, seed, updates or study.updates, start)


def matched_cells(study: Study, workdir: pathlib.Path, first: Sequence[Cell]) -> list[Cell]:
    """Cells with as many updates as the budget pays for, by what `first` spent."""
    spent = {(c.arm, c.seed): tokens_of(workdir, c)[-1] for c in first}
    found = []
    for c in first:
        budget = study.budget or max(spent[arm, c.seed] for arm in study.arms)
        updates = matched_updates(budget, spent[c.arm, c.seed], study.updates)
        if abs(updates - study.updates) <= study.tolerance * study.updates:
            updates = study.updates
        found.append(cell_of(study, workdir, c.arm, c.seed, updates))
    return found


def folder(workdir: pathlib.Path, one: Cell) -> pathlib.Path:
    """The working directory of a cell."""
    return workdir / "cells" / one.name


def tokens_of(workdir: pathlib.Path, one: Cell) -> np.ndarray:
    """Forward tokens [updates] up to and with each update of a finished cell."""
    lines = (folder(workdir, one) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return np.cumsum([row["forward_tokens"] for row in rows if row["step"]])


def run_cells(name: str, cells: Sequence[Cell], workdir: pathlib.Path, jobs: int) -> None:
    """Runs cells in order, `jobs` at a time, each once; those that are finished are left alone.

    Args:
      name: of these cells, for the line of progress.

    Raises:
      UserError, Interrupted: as `run_study`.
    """
    todo = [c for c in {c.name: c for c in cells}.values() if not is_finished(workdir, c)]
    if not todo:
        return
    running: dict[str, tuple[Cell, subprocess.Popen]] = {}
    done = {c.name: _updates_done(workdir, c) for c in todo}
    left = sum(_work(c) * (c.updates - done[c.name]) for c in todo)
    with Signals() as signals, _ended(running), Bar(f"{name}, tokens", int(left)) as bar:
        while todo or running:
            while todo and len(running) < jobs:
                one = todo.pop(0)
                running[one.name] = one, start(workdir, one)
            time.sleep(_POLL)
            if signals.received:
                raise Interrupted(signals.received)
            for one, process in list(running.values()):
                code = process.poll()
                if new := max(_updates_done(workdir, one) - done[one.name], 0):
                    done[one.name] += new
                    bar.advance(int(new * _work(one)))
                if code is None:
                    continue
                del running[one.name]
                if code or not is_finished(workdir, one):
                    raise _failure(workdir, one, code)
                print(f"finished {one.name}", flush=True)


def is_finished(workdir: pathlib.Path, one: Cell) -> bool:
    """Whether the cell has a summary.

    Raises:
      UserError: its folder holds a run of another configuration.
    """
    where = folder(workdir, one)
    if (where / "config.json").exists():
        theirs = json.loads((where / "config.json").read_text())
        mine = json.loads(json.dumps(dataclasses.asdict(one.config)))
        if changed := differences(theirs | {name: mine[name] for name in _FREE}, mine):
            raise UserError(
                f"{where}: holds a cell of another plan ({changed}); choose another --workdir, or "
                "take back the change"
            )
    return (where / "summary.json").exists()


def start(workdir: pathlib.Path, one: Cell) -> subprocess.Popen:
    """Starts a cell, or goes on with it; it says what it says in `<name>.log`."""
    where = folder(workdir, one)
    words = [sys.executable, "-m", f"gccpo_jax.{one.command}", *one.words, "--workdir", str(where)]
    if (where / "config.json").exists():
        words.append("--resume")
    with where.with_name(f"{where.name}.log").open("a", encoding="utf-8") as log:
        # A session of its own: Ctrl-C reaches the study, which asks its cells to end once.
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


@contextlib.contextmanager
def _ended(running: dict[str, tuple[Cell, subprocess.Popen]]) -> Iterator[None]:
    """However the body ends, cells that run are asked to save and end, and waited for."""
    try:
        yield
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()


def _failure(workdir: pathlib.Path, one: Cell, code: int) -> UserError:
    log = folder(workdir, one).with_name(f"{one.name}.log")
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    return UserError(f"cell {one.name} ended with code {code} ({last}); see {log}")


def _updates_done(workdir: pathlib.Path, one: Cell) -> int:
    file = folder(workdir, one) / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return sum(b'"step": 0' not in line for line in lines)


def _work(one: Cell) -> float:
    """What an update costs, for the forecast: forward tokens at the configuration's limits."""
    c = one.config
    each = 1 + (at_the_limits(c, None).total.multiple if one.arm else 0)
    return each * c.batch_size * c.group_size * c.sampling.max_tokens

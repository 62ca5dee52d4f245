"""Trackers of experiments, each through its own client: Weights & Biases, MLflow, trackio.

`config.log.<tracker>` names the project; where results go, and whether anything leaves this
machine, is the client's own affair (`WANDB_MODE=offline`, `MLFLOW_TRACKING_URI`, `TRACKIO_DIR`).
`metrics.jsonl` is the run's record whatever a tracker does: one that fails is left out with a line.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import pathlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from gccpo_jax.config import LogConfig
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.completions import Completion
from gccpo_jax.runtime.workdir import write_json

FILE = "trackers.json"
"""In the directory of a run: what each client calls it, for a run that resumes."""

TABLE = "completions"
COLUMNS = ("step", "question", "text", "answer", "gold", "outcome", "reward", "advantage")
_BATCH = 100  # parameters that MLflow takes at once


class Tracker(Protocol):
    """What a run tells a tracker."""

    name: str
    run_id: str  # what the client calls the run
    where: str  # for people

    def step(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def completions(self, step: int, rows: Sequence[Completion]) -> None: ...

    def close(self) -> None: ...


class _Logs:
    """A client with a run that logs, and tables: `_run`, `_table`."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def completions(self, step: int, rows: Sequence[Completion]) -> None:
        self._run.log({TABLE: self._table(columns=list(COLUMNS), data=table(rows))}, step=step)


class Wandb(_Logs):
    """Weights & Biases."""

    name = "wandb"

    def __init__(self, project: str, workdir: pathlib.Path, config: dict, known: str | None):
        import wandb

        self._table = wandb.Table
        self._run = wandb.init(
            project=project,
            name=workdir.name,
            id=known,
            resume="allow" if known else None,
            dir=workdir,
            config=config,
            settings=wandb.Settings(console="off", silent=True),  # the terminal is the run's
        )
        self.run_id = self._run.id
        self.where = self._run.url or f"offline, wandb sync {self._run.dir.removesuffix('/files')}"

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """MLflow: runs in its client's store, `MLFLOW_TRACKING_URI`."""

    name = "mlflow"

    def __init__(self, project: str, workdir: pathlib.Path, config: dict, known: str | None):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric, self._client = Metric, MlflowClient()
        if known:
            self.run_id = known
            self._client.update_run(known, status="RUNNING")
        else:
            found = self._client.get_experiment_by_name(project)
            experiment = found.experiment_id if found else self._client.create_experiment(project)
            self.run_id = self._client.create_run(experiment, run_name=workdir.name).info.run_id
            given = [Param(path, str(value)) for path, value in leaves(config)]
            for first in range(0, len(given), _BATCH):
                self._client.log_batch(self.run_id, params=given[first : first + _BATCH])
        self.where = f"{self._client.tracking_uri}, run {self.run_id}"

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        rows = [self._metric(spelt(name), value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=rows)

    def completions(self, step: int, rows: Sequence[Completion]) -> None:
        columns = zip(*table(rows), strict=True)
        by_name = dict(zip(COLUMNS, map(list, columns), strict=True))
        self._client.log_table(self.run_id, by_name, f"{TABLE}.json")

    def close(self) -> None:
        self._client.set_terminated(self.run_id)


class Trackio(_Logs):
    """trackio: an SQLite file of this machine, or a Space that the client is told of."""

    name = "trackio"

    def __init__(self, project: str, workdir: pathlib.Path, config: dict, known: str | None):
        import trackio

        self._table, self._finish = trackio.Table, trackio.finish
        self.run_id = known or f"{workdir.name}-{secrets.token_hex(3)}"  # a run by its name
        with _quiet():
            self._run = trackio.init(
                project=project,
                name=self.run_id,
                config=config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self.where = f"trackio show --project {project}"

    def close(self) -> None:
        with _quiet():
            self._finish()


TRACKERS = {kind.name: kind for kind in (Wandb, Mlflow, Trackio)}
"""Field of `config.log`, which is the client's module and the extra that brings it, to its kind."""


def asked(log: LogConfig) -> dict[str, str]:
    """{tracker: project} of the config."""
    return {name: getattr(log, name) for name in TRACKERS if getattr(log, name)}


def check(log: LogConfig) -> None:
    """Refuses a tracker whose client is not installed.

    Raises:
      UserError: names the field and what brings the client.
    """
    for name, project in asked(log).items():
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # or a folder of that name, which clients leave
            raise UserError(
                f"config.log.{name} = {project!r}: its client is not installed; "
                f"pip install 'gccpo-jax[{name}]', or leave it ''"
            )


def open_trackers(log: LogConfig, workdir: pathlib.Path, *, resumes: bool) -> list[Tracker]:
    """Starts a run in every tracker that is asked for, or goes on with the one of this directory.

    Args:
      workdir: claimed; its `config.json` is what trackers are told.
    Raises:
      UserError: a client is missing or does not start.
    """
    check(log)
    if not asked(log):
        return []
    file = workdir / FILE
    known = json.loads(file.read_text()) if resumes and file.is_file() else {}
    config = json.loads((workdir / "config.json").read_text())
    found = []
    for name, project in asked(log).items():
        try:
            found.append(TRACKERS[name](project, workdir, config, known.get(name)))
        except Exception as error:
            raise UserError(
                f"config.log.{name} = {project!r}: its client does not start ({reason(error)}); "
                "mend that, or leave it ''"
            ) from error
    write_json(file, known | {one.name: one.run_id for one in found})
    return found


def reason(error: Exception) -> str:
    """An error in a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among metrics."""
    found = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def table(rows: Sequence[Completion]) -> list[list[Any]]:
    """Rows of `COLUMNS`."""
    return [[getattr(row, name) for name in COLUMNS] for row in rows]


def leaves(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every field.

    >>> list(leaves({"steps": 3, "log": {"rollouts": 2}}))
    [('steps', 3), ('log.rollouts', 2)]
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def spelt(name: str) -> str:
    """A metric's name in MLflow's letters.

    >>> spelt("eval/id_mean@4")
    'eval/id_mean-4'
    """
    return "".join(c if c.isalnum() or c in "_-. /" else "-" for c in name)


def _quiet() -> contextlib.AbstractContextManager:
    return contextlib.redirect_stdout(io.StringIO())

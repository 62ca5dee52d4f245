"""The log of a run: metrics.jsonl, TensorBoard event files (one event per step), the terminal,
and the trackers that the config asks for."""

from __future__ import annotations

import atexit
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from gccpo_jax.config import LogConfig
from gccpo_jax.runtime import trackers
from gccpo_jax.runtime.completions import Completion
from gccpo_jax.runtime.distributed import is_first
from gccpo_jax.runtime.live_view import LiveView
from gccpo_jax.runtime.trackers import Tracker
from gccpo_jax.runtime.workdir import write_text, writing


class RunLog:
    """Appends a line per step, and one before the first, flushed at once.

    A killed run keeps every line it finished.

    Fields that hold times end in `_seconds` or `_per_second`; nothing else depends
    on the clock. A number that is not finite (the loss of a skipped update) is
    null, since JSON has no other word for it. When a run resumes after step n,
    lines of later steps are dropped: those steps are run again.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        steps: int,
        tensorboard: bool,
        *,
        resume_step: int = 0,
        told: Sequence[Tracker] = (),
    ) -> None:
        self._path = workdir / "metrics.jsonl"
        with writing("metrics", self._path):
            _keep_steps(self._path, resume_step)
            self._file = self._path.open("a", encoding="utf-8")
            self._board = (
                TensorBoardEvents(workdir / "tensorboard", resume_step) if tensorboard else None
            )
        self._console = Console()
        is_live = self._console.is_terminal
        self._live = LiveView(self._console, steps, resume_step) if is_live else None
        if self._live:
            self._live.start()
            atexit.register(self._live.stop)  # gives the terminal its cursor back, however we end
        self._steps = steps
        self._told = list(told)
        for tracker in self._told:
            self.say(f"{tracker.name}: {tracker.where}")

    def say(self, text: str) -> None:
        """A line for people, above the progress bar if there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        sys.stdout.flush()

    def start(self, metrics: dict[str, Any]) -> None:
        """Writes what is known before the first step, as step 0.

        Raises:
          UserError: it could not be written.
        """
        self._write(0, metrics)

    def step(self, step: int, metrics: dict[str, Any], headline: str) -> None:
        """Writes the metrics of one step (counted from 1).

        Raises:
          UserError: they could not be written.
        """
        self._write(step, metrics)
        if self._live:
            self._live.step(step, metrics, headline)
        else:
            self.say(f"step {step}/{self._steps}  {headline}")

    def completions(self, step: int, rows: Sequence[Completion]) -> None:
        """Shows rollouts of a step: a terminal the one in most steps, trackers all of them."""
        if self._live and rows:
            self._live.sample(max(rows, key=lambda row: len(row.pieces)))
        if rows:
            self._tell(lambda tracker: tracker.completions(step, rows))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        """Tells every tracker; one that fails is left out from now on."""
        for tracker in list(self._told):
            try:
                what(tracker)
            except Exception as error:
                self._told.remove(tracker)
                why = trackers.reason(error)
                self.say(f"warning: {tracker.name} failed ({why}); the run goes on without it")

    def _write(self, step: int, metrics: dict[str, Any]) -> None:
        with writing("metrics", self._path):
            self._path.stat()  # a file that was deleted can be written to while it is open
            self._file.write(_line(step, metrics))
            self._file.flush()
            if self._board:
                self._board.step(step, metrics)
        if numbers := trackers.numbers(metrics):
            self._tell(lambda tracker: tracker.step(step, numbers))

    def close(self) -> None:
        if self._live:
            self._live.stop()
        self._tell(lambda tracker: tracker.close())
        with writing("metrics", self._path):
            self._file.close()
            if self._board:
                self._board.close()


class Silent:
    """The log of the other processes: nothing."""

    def say(self, text: str) -> None: ...

    def start(self, metrics: dict[str, Any]) -> None: ...

    def step(self, step: int, metrics: dict[str, Any], headline: str) -> None: ...

    def completions(self, step: int, rows: Sequence[Completion]) -> None: ...

    def close(self) -> None: ...


def open_log(
    workdir: pathlib.Path, steps: int, log: LogConfig, *, resume_step: int
) -> RunLog | Silent:
    """The first process's log; the others say nothing.

    Raises:
      UserError: it could not be written, or a tracker does not start.
    """
    if not is_first():
        return Silent()
    told = trackers.open_trackers(log, workdir, resumes=resume_step > 0)
    return RunLog(workdir, steps, log.tensorboard, resume_step=resume_step, told=told)


def _line(step: int, metrics: dict[str, Any]) -> str:
    row = {name: value if _is_json(value) else None for name, value in metrics.items()}
    return json.dumps({"step": step, **row}, sort_keys=True, allow_nan=False) + "\n"


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _keep_steps(path: pathlib.Path, last: int) -> None:
    """Drops the lines of later steps, and a last line that was cut by the end of the process."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("}\n")]
    # A run that starts anew writes what was before the first step again.
    write_text(path, "".join(line for line in whole if last and json.loads(line)["step"] <= last))


def timed(metrics: dict[str, float], laps: dict[str, float], start: float) -> dict[str, float]:
    """Adds stage seconds, the step's seconds and sampled tokens per second."""
    seconds = time.perf_counter() - start
    rate = {"tokens_per_second": metrics["tokens"] / seconds} if "tokens" in metrics else {}
    return {**metrics, **laps, "step_seconds": seconds, **rate}


class TensorBoardEvents:
    """TensorBoard's event files, written in the caller's thread.

    tensorboardX's own writer is a thread: a full disk ends it without a message, and its queue
    then blocks the run for ever.
    """

    def __init__(self, directory: pathlib.Path, resume_step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        directory.mkdir(exist_ok=True)
        self._events = EventsWriter(str(directory / "events"))
        # TensorBoard drops what an earlier life of the run wrote from this step on.
        self._write(resume_step + 1, session_log=SessionLog(status=SessionLog.START))

    def step(self, step: int, metrics: dict[str, Any]) -> None:
        """The numbers among the metrics of one step."""
        from tensorboardX.proto.summary_pb2 import Summary

        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, (int, float))}
        values = [Summary.Value(tag=name, simple_value=x) for name, x in numbers.items()]
        self._write(step, summary=Summary(value=values))

    def close(self) -> None:
        self._events.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(wall_time=time.time(), step=step, **content))

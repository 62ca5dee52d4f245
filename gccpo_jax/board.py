"""Metrics as TensorBoard event files, an event a step."""

from __future__ import annotations

import pathlib
import time
from typing import Any


class Board:
    """Writes where it is called: tensorboardX's own writer is a thread, which a full disk ends
    in silence and whose queue then blocks the run for ever.
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

"""Signals that ask a run to end: it finishes the step under way, saves, and can go on later."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preempted(Exception):
    """A run that a signal ended after a whole step; the process exits with 128 + its number."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"{signal.Signals(number).name}: stopped after step {step}, saved")
        self.exit_code = 128 + number


@contextlib.contextmanager
def on_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """While in it Ctrl-C calls `action` in place of raising `KeyboardInterrupt`.

    An exception that is raised inside a callback of a library is printed there and lost, and the
    process goes on. In a thread, or under another handler than Python's own, nothing changes.
    """
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Signals:
    """`with Signals() as signals:` notes SIGTERM and SIGINT in `signals.received`.

    The handler only notes the first one. A second one acts as if there were no handler:
    it ends the process at once, and the newest complete checkpoint is what is left. In a
    thread other than the main one nothing is installed (Python allows it there only).
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that is not Python's

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

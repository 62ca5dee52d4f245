"""Progress of a long command: a live bar in a terminal, lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

_SECONDS = 5.0  # between lines where there is no terminal


def columns() -> list[ProgressColumn]:
    """Name, bar, count and time left of a live bar."""
    return [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]


class Bar:
    """`with Bar("questions", 100) as bar: bar.advance(4)`."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._start = self._said = time.monotonic()
        console = Console(stderr=True)
        self._live = None
        if console.is_terminal:
            self._live = Progress(*columns(), console=console)
            self._task = self._live.add_task(name, total=total)
        self._console = console

    def __enter__(self) -> Bar:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def advance(self, count: int) -> None:
        """Adds `count` to what is done."""
        self._done += count
        if self._live:
            self._live.update(self._task, completed=self._done)
            return
        now = time.monotonic()
        if now - self._said < _SECONDS and self._done < self._total:
            return
        self._said = now
        left = (now - self._start) / max(self._done, 1) * (self._total - self._done)
        self._console.print(
            f"{self._name} {self._done}/{self._total}  about {left:.0f} s left", highlight=False
        )

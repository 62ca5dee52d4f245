"""What a terminal shows while a run goes on: how far it is, where its curves go, one rollout."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from gccpo_jax.runtime.completions import Completion
from gccpo_jax.runtime.progress import columns
from gccpo_jax.runtime.terminal import coloured, plain, sparkline

CURVES = {
    "reward": "reward",
    "accuracy": "accuracy",
    "kl": "kl",
    "loss": "loss",
    "tokens_per_second": "tokens/s",
}
"""Metric to its name, where a run has it."""
_STEPS = 40  # of a sparkline
_LINES = 12  # of the sample
_SECONDS = 600.0  # that the time left is estimated from: a step may take minutes


class LiveView:
    """A bar with the time left, sparklines of the last steps, and a sample with its credit.

    `console.print` writes above it.
    """

    def __init__(self, console: Console, steps: int, done: int) -> None:
        self._bar = Progress(*columns(), console=console, speed_estimate_period=_SECONDS)
        self._task = self._bar.add_task("training", total=steps, completed=done)
        self._seen = {name: collections.deque(maxlen=_STEPS) for name in CURVES}
        self._sample: Completion | None = None
        self._headline = ""
        self._live = Live(get_renderable=self.view, console=console, refresh_per_second=4)

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        """Leaves the last state in the terminal and gives the cursor back."""
        self._live.stop()

    def step(self, step: int, metrics: Mapping[str, Any], headline: str) -> None:
        """Takes the metrics of a step in."""
        for name, values in self._seen.items():
            values.append(metrics.get(name))
        self._headline = headline
        self._bar.update(self._task, completed=step)

    def sample(self, completion: Completion) -> None:
        """Shows another rollout."""
        self._sample = completion

    def view(self) -> RenderableType:
        """The whole of it."""
        curves = Table.grid(padding=(0, 2))
        for name, title in CURVES.items():
            values = [v for v in self._seen[name] if v is not None]
            if values:
                line = sparkline(self._seen[name], _STEPS)
                curves.add_row(title, line, f"{values[-1]:.4g}")
        parts: list[RenderableType] = [self._bar, Text(self._headline), curves]
        if self._sample is not None:
            parts.append(sample_panel(self._sample))
        return Group(*parts)


def sample_panel(completion: Completion) -> Panel:
    """A rollout, each of its steps on the colour of its credit."""
    lines = coloured(completion.pieces).split("\n")
    body = Text("\n").join(lines[:_LINES])
    if len(lines) > _LINES:
        body.append(f"\n... {len(lines) - _LINES} lines more")
    question = Text(plain(completion.question.strip()), style="italic")
    title = f"step {completion.step}, question {completion.question_id}: {completion.verdict}"
    return Panel(Group(question, body), title=Text(title), title_align="left")

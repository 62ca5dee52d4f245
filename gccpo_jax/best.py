"""Which checkpoints stay: the newest, and those with the best held-out accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

ACCURACY = "eval/id"
"""The metric that checkpoints are compared by: greedy accuracy on split "id"."""


@dataclasses.dataclass(frozen=True)
class NewestAndBest:
    """An Orbax preservation policy: the `newest` checkpoints and the `best` of all.

    A checkpoint that was not evaluated is never among the best.
    """

    newest: int  # >= 1
    best: int  # >= 0

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        """Whether each stays; `checkpoints` have `step` and `metrics`, the newest last."""
        found = {info.step: accuracy_of(info.metrics) for info in checkpoints}
        kept = {*list(found)[-self.newest :], *ranked(found)[: self.best]}
        return [info.step in kept for info in checkpoints]


def accuracy_of(metrics: Mapping[str, float] | None) -> float | None:
    """The accuracy that was saved with a checkpoint, None if it was not evaluated."""
    return (metrics or {}).get(ACCURACY)


def ranked(accuracies: Mapping[int, float | None]) -> list[int]:
    """Steps that were evaluated, the best first; of equal ones the newer first.

    >>> ranked({10: 0.5, 20: 0.7, 30: None, 40: 0.5})
    [20, 40, 10]
    """
    known = [(value, step) for step, value in accuracies.items() if value is not None]
    return [step for _, step in sorted(known, reverse=True)]

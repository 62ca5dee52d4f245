"""Seconds per stage of a step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import jax


class Stopwatch:
    """Adds up wall-clock time by stage: `with watch("sample"): ...`; traces name the stage too."""

    def __init__(self) -> None:
        self._stages: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            with jax.profiler.TraceAnnotation(stage):
                yield
        finally:
            self._stages[stage] = self._stages.get(stage, 0.0) + time.perf_counter() - start

    def lap(self) -> dict[str, float]:
        """`{"<stage>_seconds": ...}` since the last lap, and starts anew."""
        stages, self._stages = self._stages, {}
        return {f"{stage}_seconds": seconds for stage, seconds in stages.items()}

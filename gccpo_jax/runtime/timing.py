"""Seconds per stage of a step, and traces of steps for Perfetto and TensorBoard."""

from __future__ import annotations

import contextlib
import pathlib
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


@contextlib.contextmanager
def traced(directory: pathlib.Path, step: int, wanted: bool) -> Iterator[None]:
    """Writes a trace of what runs inside to `directory/step_<step>/`, if it is `wanted`.

    Below it are `plugins/profile/<time>/perfetto_trace.json.gz`, which https://ui.perfetto.dev
    opens, and `*.xplane.pb` for `tensorboard --logdir directory` (with its plugin `xprof`).
    Python calls are left out, which would bury the device's.
    """
    if not wanted:
        yield
        return
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    where = directory / f"step_{step:06d}"
    with (
        jax.profiler.trace(where, create_perfetto_trace=True, profiler_options=options),
        jax.profiler.StepTraceAnnotation("step", step_num=step),
    ):
        yield

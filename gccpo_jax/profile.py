"""Traces of steps for Perfetto and TensorBoard: what ran on the device, and when."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import jax

WARM_UP = 2
"""Steps of a process that come before those that are traced: they compile."""


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

"""The planner against the compiler: bytes of every stage of a training step on this machine.

    python benchmarks/memory.py --config configs/quickstart.py [--config.<field>=<value> ...]

Each stage of `planning.stages` is compiled for the shapes of the config (nothing runs) and the
memory that the compiled program allocates beside its arguments is read from XLA's own buffer
assignment (`memory_analysis`: results and temporary buffers, less what takes the place of donated
arguments). That is exact for the arrays of a program and leaves out what a process takes
besides: Python, the compiler and its code, hundreds of MB that do not depend on the config.
What is alive beside a stage (parameters, moments, caches) are the planner's own sums of shapes.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time

import jax

from gccpo_jax.config import Config
from gccpo_jax.plan import shape_of
from gccpo_jax.runtime import cli
from gccpo_jax.training.planning import stages
from gccpo_jax.training.planning.memory import plan


def compiled(stage: stages.Stage) -> int:
    """Bytes that the compiled stage allocates beside its arguments."""
    donated = tuple(range(stage.donated))
    program = jax.jit(stage.run, donate_argnums=donated).lower(*stage.arguments).compile()
    found = program.memory_analysis()
    return found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes


def measure(config: Config, name: str, workdir: pathlib.Path, resume: bool) -> None:
    """Prints a line for each stage and one for the peak."""
    arch = shape_of(config)
    planned, programs = plan(config, arch), stages.of_step(stages.share_of(config, arch))
    totals = {}
    for row in planned.stages:
        if row.name not in programs:
            continue
        start, stage = time.perf_counter(), programs[row.name]
        work = compiled(stage)
        totals[row.name] = row.total + work - stage.work
        line = {
            "config": name,
            "stage": row.name,
            "planned_MB": round(row.total / 1e6, 1),
            "measured_MB": round(totals[row.name] / 1e6, 1),
            "ratio": round(row.total / totals[row.name], 3),
            "planned_work_MB": round(stage.work / 1e6, 1),
            "measured_work_MB": round(work / 1e6, 1),
            "seconds": round(time.perf_counter() - start, 1),
        }
        print(json.dumps(line), flush=True)
    highest = max(totals, key=totals.get)
    line = {
        "config": name,
        "planned_peak_MB": round(planned.peak.total / 1e6, 1),
        "planned_stage": planned.peak.name,
        "measured_peak_MB": round(totals[highest] / 1e6, 1),
        "measured_stage": highest,
        "ratio": round(planned.peak.total / totals[highest], 3),
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    sys.exit(cli.main(measure, __doc__, sys.argv[1:]))

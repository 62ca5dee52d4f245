"""Runs contestants in processes of their own, one after the other, on the same single core.

Programs that share cores slow each other down several times over, so that figures of
separate runs cannot be compared. Here every contestant has one thread on one core, and
works only while the others wait for their turn.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
from typing import Any, NamedTuple

HERE = pathlib.Path(__file__).parent
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Contestant(NamedTuple):
    """A script of this folder that calls `entrant.serve`."""

    name: str
    python: str  # the interpreter of the environment it needs
    script: str
    arguments: tuple[str, ...] = ()


class Result(NamedTuple):
    """What a contestant's runs took."""

    first: float  # seconds  of the first run: compilation and one run
    seconds: float  # median of the runs after it
    spread: tuple[float, float]  # the fastest and the slowest
    peak_gib: float  # of the process: weights, compiler and all


def alternate(contestants: list[Contestant], repeats: int, core: int) -> dict[str, Result]:
    """Each contestant's turns, `repeats` rounds of one turn each after the first."""
    running, first, rounds = [], [], []
    for contestant in contestants:  # one at a time: warming up takes the core too
        running.append(_start(contestant, core))
        first.append(_answer(contestant, running[-1]))
    for _ in range(repeats):
        rounds.append([_turn(c, p) for c, p in zip(contestants, running, strict=True)])
    for process in running:
        process.stdin.close()
        process.wait()
    found = {}
    for contestant, begun, turns in zip(contestants, first, zip(*rounds, strict=True), strict=True):
        seconds = [turn["seconds"] for turn in turns]
        found[contestant.name] = Result(
            first=begun["seconds"],
            seconds=statistics.median(seconds),
            spread=(min(seconds), max(seconds)),
            peak_gib=turns[-1]["peak_gib"],
        )
    return found


def _start(contestant: Contestant, core: int) -> subprocess.Popen:
    command = [contestant.python, str(HERE / contestant.script), *contestant.arguments]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(HERE.parent)},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def _turn(contestant: Contestant, process: subprocess.Popen) -> dict[str, Any]:
    process.stdin.write("go\n")
    process.stdin.flush()
    return _answer(contestant, process)


def _answer(contestant: Contestant, process: subprocess.Popen) -> dict[str, Any]:
    """The next JSON line; whatever else a library prints is passed over."""
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"{contestant.name} ended with exit code {process.wait()}; see above")

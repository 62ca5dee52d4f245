"""Which kernels of a GPU a piece of work spends its time in."""

from __future__ import annotations

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import jax


class Kernel(NamedTuple):
    """All runs of the kernels whose names differ in numbers alone, in grids of one size."""

    name: str
    count: int
    seconds: float


def longest(work: Callable[[], object], most: int = 30) -> tuple[list[Kernel], float]:
    """The kernels of one run that take the most time, and the seconds of all of them together."""
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            jax.block_until_ready(work())
        (file,) = pathlib.Path(directory).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
    counts: collections.Counter[str] = collections.Counter()
    times: collections.Counter[str] = collections.Counter()
    for plane in profile.planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                name = f"{re.sub(r'[._]?[0-9]+', '', event.name)[:48]} {_grid(event)}"
                counts[name] += 1
                times[name] += event.duration_ns
    found = [Kernel(name, counts[name], ns / 1e9) for name, ns in times.most_common(most)]
    return found, times.total() / 1e9


def _grid(event: object) -> str:
    """Blocks of threads, as the profiler tells them; "" where it does not."""
    for _, value in event.stats:
        if found := re.search(r"grid:(\S+)", str(value)):
            return found[1]
    return ""


def table(title: str, work: Callable[[], object]) -> str:
    """What `longest` finds, as text."""
    found, total = longest(work)
    rows = [f"{title}: {1e3 * total:.2f} ms in kernels"]
    rows += [f"  {1e3 * k.seconds:9.2f} ms  {k.count:6d} x  {k.name}" for k in found]
    return "\n".join(rows)

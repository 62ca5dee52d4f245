"""One contestant of a benchmark: a process that runs its work once for every line it is sent.

Needs nothing but Python, so that a peer's script can use it in the peer's own environment.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable


def lengths(rows: int, response: int) -> list[int]:
    """Of rows that spread 1:8, the same at every call: from `response` / 8 on each token is the
    last with probability 4 / `response`."""
    chance = random.Random(0)
    first = response // 8
    each = (first + int(chance.expovariate(4 / response)) for _ in range(rows))
    return [min(n, response) for n in each]


def serve(work: Callable[[], object]) -> None:
    """Runs `work` once to warm up (compilation included), then once per line of standard input.

    Each run answers with one JSON line: `seconds`, and `peak_gib`, the most memory that the
    process has held so far.
    """
    _report(_seconds(work))
    for _ in sys.stdin:
        _report(_seconds(work))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _report(seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
    print(json.dumps({"seconds": seconds, "peak_gib": round(peak, 2)}), flush=True)

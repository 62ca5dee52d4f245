"""Whether the references of programming data sets pass their own tests, and how long that takes.

    python scripts/judge_references.py mbpp FILE [--from 0] [--to 100] [--field buggy]

A line per program that is not accepted; the last one is JSON: {"judged", "accepted", "unscorable",
"tiers", "milliseconds": {tier: [median, greatest]}}.
"""

from __future__ import annotations

import argparse
import collections
import json
import time

import numpy as np

from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.checking.code import Limits
from gccpo_jax.tasks.code.coded import verdict


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=("humaneval", "mbpp", "quixbugs"))
    parser.add_argument("file")
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--to", type=int, default=None, dest="last")
    parser.add_argument("--seconds", type=float, default=2.0, help="of processor per program")
    parser.add_argument("--buggy", action="store_true", help="the programs to be repaired")
    a = parser.parse_args()
    items = load_task(a.task, "", a.file).splits["id"][a.first : a.last]
    times, accepted, unscorable = collections.defaultdict(list), 0, 0
    for item in items:
        begun = time.monotonic()
        found = verdict(item, item.question if a.buggy else item.solution, Limits(a.seconds))
        times[found.tier or "none"].append(1e3 * (time.monotonic() - begun))
        accepted += found.answer == item.answer
        unscorable += found.passed is None
        if found.answer != item.answer:
            print(item.meta["id"], found.answer, found.tier, found.reason)
    spread = {
        tier: [round(float(f(some)), 1) for f in (np.median, np.max)]
        for tier, some in times.items()
    }
    counts = {tier: len(some) for tier, some in times.items()}
    found = {"judged": len(items), "accepted": accepted, "unscorable": unscorable}
    print(json.dumps({**found, "tiers": counts, "milliseconds": spread}))


if __name__ == "__main__":
    main()

"""What a queue of rollouts gains over fixed batches, on one core with one thread.

    python benchmarks/rollout_queue.py [--shape smollm2] [--repeats 3] [--core 0]

128 rollouts, 32 at a time, with lengths spread 1:8. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys

from contest import Contestant, alternate

QUESTIONS, GROUP, SLOTS, PROMPT, RESPONSE = 16, 8, 32, 64, 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--shape", choices=("tiny", "smollm2"), default="smollm2")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--core", type=int, default=0)
    asked = options.parse_args()
    sizes = tuple(map(str, (QUESTIONS, GROUP, SLOTS, PROMPT, RESPONSE)))
    contestants = [
        Contestant(kind, sys.executable, "rollout_queue_ours.py", (asked.shape, kind, *sizes))
        for kind in ("fixed", "queue")
    ]
    found = alternate(contestants, asked.repeats, asked.core)
    line = {"shape": asked.shape, "rollouts": QUESTIONS * GROUP, "slots": SLOTS}
    for name, result in found.items():
        line[f"{name}_seconds"] = round(result.seconds, 2)
        line[f"{name}_peak_gib"] = result.peak_gib
    line["ratio_queue_over_fixed"] = round(found["fixed"].seconds / found["queue"].seconds, 3)
    print(json.dumps(line))


if __name__ == "__main__":
    main()

"""A GRPO update, or a whole GRPO step, ours beside peers, on one core with one thread.

    python benchmarks/grpo.py update|step [--shape smollm2] [--questions 4] [--response 64]
        [--spread] [--repeats 3] [--core 0] [--micro-batch 1] [--torch PYTHON] [--torch-rows 32]
        [--tunix PYTHON] [--trl PYTHON]

PYTHON is the interpreter of an environment with that peer (`--torch`: a plain loop on the
networks of `transformers`); a peer without one is left out. An update is one AdamW step of
the clipped objective. A step samples with the behaviour policy, rewards on the host,
normalises by group and updates. All have the same rows and tokens; ours reads the prompt
once per group. Tunix's step is its sampler and its update without what its learner does
around them; TRL's is its trainer's own step, with its defaults. All processes live at once:
with peers that need gigabytes ask for one at a time, or for fewer `--questions`.
With `--spread` the lengths of an update's rows spread 1:8 (ours and `--torch`, which both pad).
`--micro-batch` counts questions of ours, `--torch-rows` sequences of the loop's. Prints one
JSON line: seconds, peak memory of the process, the ratios, and for updates the share of the
limit of matrix products (the least that the shared prompt needs, nothing computed twice).
"""

from __future__ import annotations

import argparse
import json
import sys

import limit
from contest import Contestant, Result, alternate
from entrant import lengths
from shapes import SHAPES, matmul_flops

GROUP, PROMPT = 8, 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("what", choices=("update", "step"))
    options.add_argument("--shape", choices=("tiny", "smollm2"), default="smollm2")
    options.add_argument("--questions", type=int, default=4)
    options.add_argument("--response", type=int, default=64)
    options.add_argument("--spread", action="store_true", help="lengths spread 1:8")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--core", type=int, default=0)
    options.add_argument("--micro-batch", type=int, default=1)
    options.add_argument("--torch", metavar="PYTHON")
    options.add_argument("--torch-rows", type=int, default=0, help="0: all")
    options.add_argument("--tunix", metavar="PYTHON")
    options.add_argument("--trl", metavar="PYTHON")
    asked = options.parse_args()
    if asked.torch and asked.what == "step":
        options.error("--torch: the plain loop only updates; leave it out")
    if asked.spread and (asked.what == "step" or asked.tunix or asked.trl):
        options.error("--spread: for an update of ours and the plain loop; leave it out")
    sizes = tuple(map(str, (asked.questions, GROUP, PROMPT, asked.response)))
    spread = ("spread",) if asked.spread else ()
    more = {
        "ours": (str(asked.micro_batch), *spread),
        "torch": (str(asked.torch_rows or asked.questions * GROUP), *spread),
    }
    contestants = [Contestant("matmul", sys.executable, "limit.py", ("matmul",))]
    for name in ("ours", "torch", "tunix", "trl"):
        if python := sys.executable if name == "ours" else getattr(asked, name):
            arguments = (asked.what, asked.shape, *sizes, *more.get(name, ()))
            contestants.append(Contestant(name, python, f"grpo_{name}.py", arguments))
    found = alternate(contestants, asked.repeats, asked.core)
    print(json.dumps(summary(asked, found)))


def summary(asked: argparse.Namespace, found: dict[str, Result]) -> dict[str, object]:
    """The line that is printed."""
    limit_flops = limit.FLOPS / found.pop("matmul").seconds
    rows = asked.questions * GROUP
    line = {"what": asked.what, "shape": asked.shape, "rows": rows}
    line |= {"response": asked.response, "spread": asked.spread}
    line["matmul_gflops"] = limit_flops / 1e9
    ours = found["ours"]
    for name, result in found.items():
        line[f"{name}_seconds"] = result.seconds
        line[f"{name}_first_seconds"] = result.first
        line[f"{name}_peak_gib"] = result.peak_gib
        if name != "ours":
            line[f"ratio_{name}_over_ours"] = result.seconds / ours.seconds
            line[f"ratio_peak_ours_over_{name}"] = ours.peak_gib / result.peak_gib
    if asked.what == "update":
        written = rows * asked.response
        if asked.spread:
            written = sum(lengths(rows, asked.response))
        encoded = written + asked.questions * PROMPT
        least = 3 * matmul_flops(SHAPES[asked.shape], encoded, written)
        line["share_of_matmul_limit"] = least / ours.seconds / limit_flops
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}


if __name__ == "__main__":
    main()

"""Rollout speed, ours beside peers, on one core with one thread.

    python benchmarks/rollout.py [--shape smollm2] [--response 64] [--spread] [--slots 0]
        [--repeats 3] [--core 0] [--transformers PYTHON] [--tunix PYTHON]

PYTHON is the interpreter of an environment with that peer (`transformers` and `torch`, or
`google-tunix`); a peer without one is left out. Ours samples with keyed noise and returns
log-probabilities and entropies; the peers decode greedily. Nobody stops early, but with
`--spread`: then lengths spread 1:8, the same ones for all, and tokens behind a row's end do not
count. Ours decodes `--slots` rollouts at a time, whoever ends giving its slot to the next; the
peers have no such queue and go on until the longest ends. Prints one JSON line: tokens per second,
the ratios, and the share of the limit of matrix products that was measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile

import limit
from contest import Contestant, Result, alternate
from shapes import SHAPES, matmul_flops

QUESTIONS, GROUP, PROMPT = 4, 8, 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--shape", choices=("tiny", "smollm2"), default="smollm2")
    options.add_argument("--response", type=int, default=64)
    options.add_argument("--spread", action="store_true", help="lengths spread 1:8")
    options.add_argument("--slots", type=int, default=0, help="of ours, with --spread; 0: all")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--core", type=int, default=0)
    options.add_argument("--transformers", metavar="PYTHON")
    options.add_argument("--tunix", metavar="PYTHON")
    asked = options.parse_args()
    if asked.slots and not asked.spread:
        options.error("--slots: without --spread nobody ends early; leave it out")
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(contest(asked, pathlib.Path(directory) / "lengths.json")))


def contest(asked: argparse.Namespace, lengths: pathlib.Path) -> dict[str, object]:
    """The line that is printed; `lengths`: where ours writes how long its rollouts were."""
    sizes = (str(PROMPT), str(asked.response))
    ends = (str(lengths),) if asked.spread else ()
    queue = (str(asked.slots), *ends) if asked.spread else ()
    rows = (asked.shape, str(QUESTIONS * GROUP), *sizes)
    contestants = [
        Contestant("matmul", sys.executable, "limit.py", ("matmul",)),
        Contestant("copy", sys.executable, "limit.py", ("copy",)),
        Contestant(
            "ours", sys.executable, "rollout_ours.py",
            (asked.shape, str(QUESTIONS), str(GROUP), *sizes, *queue),
        ),
    ]  # fmt: skip
    for name in ("transformers", "tunix"):
        if python := getattr(asked, name):
            contestants.append(Contestant(name, python, f"rollout_{name}.py", (*rows, *ends)))
    found = alternate(contestants, asked.repeats, asked.core)
    new = QUESTIONS * GROUP * asked.response
    if asked.spread:
        new = sum(json.loads(lengths.read_text()))
    line = {"shape": asked.shape, "response": asked.response, "slots": asked.slots, "tokens": new}
    return line | summary(asked.shape, new, found)


def summary(shape: str, new: int, found: dict[str, Result]) -> dict[str, object]:
    """Tokens per second and ratios, where `new` tokens are asked for."""
    least = matmul_flops(SHAPES[shape], new + QUESTIONS * PROMPT, new)
    limit_flops = limit.FLOPS / found.pop("matmul").seconds
    copy = limit.BYTES / found.pop("copy").seconds
    ours = found["ours"].seconds
    line: dict[str, object] = {"matmul_gflops": limit_flops / 1e9, "copy_gbs": copy / 1e9}
    for name, result in found.items():
        line[f"{name}_tokens_per_second"] = new / result.seconds
        line[f"{name}_first_seconds"] = result.first
        line[f"{name}_peak_gib"] = result.peak_gib
        if name != "ours":
            line[f"ratio_ours_over_{name}"] = result.seconds / ours
    line["share_of_matmul_limit"] = least / ours / limit_flops
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}


if __name__ == "__main__":
    main()

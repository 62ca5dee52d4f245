"""Update time and memory, ours beside peers, on one core with one thread.

    python benchmarks/update.py [--shape smollm2] [--repeats 3] [--core 0]
        [--micro-batch 1] [--torch PYTHON] [--torch-rows 32] [--tunix PYTHON]

PYTHON is the interpreter of an environment with `transformers` and `torch`, or with
`google-tunix`; a peer without one is left out. All do one AdamW update of the clipped
objective on the same number of tokens; ours encodes the prompt once a group.
`--micro-batch` counts questions of ours, `--torch-rows` sequences of the loop's. Prints
one JSON line: seconds, peak memory of the process, the ratios, and the share of the limit
of matrix products (the least that the shared prompt needs, without anything computed
twice).
"""

from __future__ import annotations

import argparse
import json
import sys

import limit
from contest import Contestant, Result, alternate
from shapes import SHAPES, matmul_flops

QUESTIONS, GROUP, PROMPT, RESPONSE = 4, 8, 64, 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--shape", choices=("tiny", "smollm2"), default="smollm2")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--core", type=int, default=0)
    options.add_argument("--micro-batch", type=int, default=1)
    options.add_argument("--torch", metavar="PYTHON")
    options.add_argument("--tunix", metavar="PYTHON")
    options.add_argument("--torch-rows", type=int, default=32)
    asked = options.parse_args()
    sizes = (str(PROMPT), str(RESPONSE))
    contestants = [
        Contestant("matmul", sys.executable, "limit.py", ("matmul",)),
        Contestant(
            "ours", sys.executable, "update_ours.py",
            (asked.shape, str(QUESTIONS), str(GROUP), *sizes, str(asked.micro_batch)),
        ),
    ]  # fmt: skip
    rows = (asked.shape, str(QUESTIONS * GROUP), *sizes)
    if asked.torch:
        more = (*rows, str(asked.torch_rows))
        contestants.append(Contestant("torch", asked.torch, "update_torch.py", more))
    if asked.tunix:
        contestants.append(Contestant("tunix", asked.tunix, "update_tunix.py", rows))
    found = alternate(contestants, asked.repeats, asked.core)
    print(json.dumps(summary(asked.shape, found)))


def summary(shape: str, found: dict[str, Result]) -> dict[str, object]:
    """The line that is printed."""
    responses = QUESTIONS * GROUP * RESPONSE
    least = 3 * matmul_flops(SHAPES[shape], responses + QUESTIONS * PROMPT, responses)
    limit_flops = limit.FLOPS / found.pop("matmul").seconds
    line = {"shape": shape, "matmul_gflops": limit_flops / 1e9}
    for name, result in found.items():
        line[f"{name}_seconds"] = result.seconds
        line[f"{name}_first_seconds"] = result.first
        line[f"{name}_peak_gib"] = result.peak_gib
        if name != "ours":
            line[f"ratio_{name}_over_ours"] = result.seconds / found["ours"].seconds
            line[f"ratio_peak_ours_over_{name}"] = found["ours"].peak_gib / result.peak_gib
    line["share_of_matmul_limit"] = least / found["ours"].seconds / limit_flops
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()}


if __name__ == "__main__":
    main()

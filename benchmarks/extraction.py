"""Time to read and to check the answer of a response, by how the answer is stated.

    python benchmarks/extraction.py --data ../shared/data [--against FOLDER]

One line per way of stating: microseconds per response to extract, and to verify (median of
repeats, each the least of five passes over all responses, so that no version runs cold); with
--against, then those of the version in a folder, timed in turn.
`math` is checked without its child process: the answer is spelled as the gold one.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.base import Item

WORDS = "She counts them again and the total is what it was before. "
GSM8K = {
    "mark": lambda steps, gold: f"{steps}\n#### {gold}",
    "mark, thousands and currency": lambda steps, gold: f"{steps}\n#### ${int(gold):,}.00",
    "mark, then a sentence": lambda steps, gold: f"{steps}\n#### {gold} dollars in all.\n{WORDS}",
    "box": lambda steps, gold: f"{steps}\nSo it is $\\boxed{{{gold}}}$.",
    "last number": lambda steps, gold: f"{steps}\nSo there are {gold} of them.",
    "no number": lambda steps, gold: WORDS * 6,
}
MATH = {
    "box": lambda steps, gold: f"{steps}\nSo it is $\\boxed{{{gold}}}$.",
    "no box": lambda steps, gold: f"{steps}\nSo it is that.",
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--against", type=pathlib.Path, help="a folder with another version")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.against and not (given.against / "gccpo_jax").is_dir():
        parser.error(f"--against {given.against}: no gccpo_jax in this folder")
    rows = [*((given.data / "gsm8k_test.jsonl", "gsm8k", name) for name in GSM8K)]
    rows += [*((given.data / "math500_dev.jsonl", "math", name) for name in MATH)]
    if given.serve:
        serve(rows)
        return
    folders = [pathlib.Path(__file__).parents[1], *([given.against] if given.against else [])]
    versions = [start(folder, given.data) for folder in folders]
    for number, (_, task, name) in enumerate(rows):
        # In turn, so that what else the machine does slows them all.
        rounds = [[ask(each, number) for each in versions] for _ in range(given.repeats)]
        found = [
            [statistics.median(x) for x in zip(*of, strict=True)]
            for of in zip(*rounds, strict=True)
        ]
        line = "   ".join(f"extract {a:8.2f} us  verify {b:8.2f} us" for a, b in found)
        if given.against:
            (a, b), (c, d) = found
            line += f"   now/before {a / c:.2f} {b / d:.2f}"
        print(f"{task:6} {name:30} {line}", flush=True)
    for each in versions:
        each.communicate()


def start(folder: pathlib.Path, data: pathlib.Path) -> subprocess.Popen:
    """A process with the version of a folder; it times a row of the table when it is asked."""
    words = [sys.executable, __file__, "--serve", "--data", str(data)]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.Popen(
        words, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def ask(version: subprocess.Popen, row: int) -> list[float]:
    print(row, file=version.stdin, flush=True)
    return json.loads(version.stdout.readline())


def serve(rows: Sequence[tuple[pathlib.Path, str, str]]) -> None:
    """Microseconds per response to extract and to verify, for each row asked for."""
    tasks = {kind: load_task(kind, str(file)) for file, kind, _ in rows}
    for line in sys.stdin:
        _, kind, name = rows[int(line)]
        task, way = tasks[kind], (GSM8K if kind == "gsm8k" else MATH)[name]
        items = task.splits["id"]
        steps = [(item.solution or "").rpartition("\n")[0] for item in items]
        texts = [way(text, item.answer) for text, item in zip(steps, items, strict=True)]
        read = per_response(lambda _, text, task=task: task.extract(text), items, texts)
        print(json.dumps([read, per_response(task.verify, items, texts)]), flush=True)


def per_response(
    run: Callable[[Item, str], object], items: Sequence[Item], texts: Sequence[str]
) -> float:
    """Microseconds per response, the least of five passes over all."""
    passes = []
    for _ in range(5):
        begin = time.perf_counter()
        for item, text in zip(items, texts, strict=True):
            run(item, text)
        passes.append(time.perf_counter() - begin)
    return min(passes) / len(items) * 1e6


if __name__ == "__main__":
    main()

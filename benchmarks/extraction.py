"""Time to read and to check the answer of a response, by how the answer is stated.

    python benchmarks/extraction.py --data ../shared/data

One line a way of stating: microseconds per response to extract, and to verify (median of
repeats over all responses). `math` is checked without its child process where the answer is
spelled as the gold one, with it (`0.5` for a fraction) where it is not.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence

from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.base import Item, Task

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
    given = parser.parse_args()
    task = load_task("gsm8k", str(given.data / "gsm8k_test.jsonl"))
    table(task, task.splits["id"], GSM8K, given.repeats)
    task = load_task("math", str(given.data / "math500_dev.jsonl"))
    table(task, task.splits["id"], MATH, given.repeats)


def table(task: Task, items: Sequence[Item], ways: dict[str, Callable], repeats: int) -> None:
    for name, way in ways.items():
        steps = [(item.solution or "").rpartition("\n")[0] for item in items]
        texts = [way(text, item.answer) for text, item in zip(steps, items, strict=True)]
        read = per_response(lambda _, text: task.extract(text), items, texts, repeats)
        check = per_response(task.verify, items, texts, repeats)
        print(f"{task.name:6} {name:30} extract {read:8.2f} us   verify {check:8.2f} us")


def per_response(
    run: Callable[[Item, str], object], items: Sequence[Item], texts: Sequence[str], repeats: int
) -> float:
    """Median microseconds per response."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for item, text in zip(items, texts, strict=True):
            run(item, text)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) / len(items) * 1e6


if __name__ == "__main__":
    main()

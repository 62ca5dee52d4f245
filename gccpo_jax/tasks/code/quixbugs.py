"""QuixBugs: a function with a fault in one line, to be repaired (`id, buggy, correct, tests`)."""

from __future__ import annotations

from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.code.asserts import of_calls
from gccpo_jax.tasks.code.coded import Coded, CodeRow, coded_task, item_of, reader

read_records = reader("id", "buggy", "correct", "tests")
# Tests on which the repaired program runs out of time, by their place; left out.
SLOW = {"knapsack": {9}, "levenshtein": {3}}
INSTRUCTION = (
    "One line of this program is wrong. Answer with the repaired program in one block of code."
)


def _ask(item: Item, chat: bool) -> str:
    return f"{INSTRUCTION}\n\n```python\n{item.question.strip()}\n```\n"


of_splits = coded_task("quixbugs", _ask, allowed=4.0)
"""The task. The tests are hidden."""


def to_item(row: CodeRow, number: int) -> Item:
    """An item of a row."""
    slow = SLOW.get(row["id"], set())
    tests = of_calls(row["id"], [test for n, test in enumerate(row["tests"]) if n not in slow])
    code = Coded(row["id"], tests)
    return item_of(number, row["buggy"], row["correct"], code, {"id": row["id"]})

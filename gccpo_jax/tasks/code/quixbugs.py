"""QuixBugs: a function with a fault in one line, to be repaired (`id, buggy, correct, tests`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.code.asserts import of_calls
from gccpo_jax.tasks.code.coded import Coded, CodeRow, code_splits, coded_task, item_of, reader

read_records = reader("id", "buggy", "correct", "tests")
# Tests on which the repaired program runs out of time, by their place; left out.
SLOW = {"knapsack": {9}, "levenshtein": {3}}
INSTRUCTION = (
    "One line of this program is wrong. Answer with the repaired program in one block of code."
)


def quixbugs(
    path: str = "",
    eval_path: str = "",
    chat: bool = True,
    share: bool = False,
    seconds: float = 4.0,
) -> Task:
    """The task; arguments as in `humaneval`. The tests are hidden."""
    return of_splits(code_splits(path, eval_path, read_records, to_item), chat, share, seconds)


def of_splits(
    splits: Mapping[str, Sequence[Item]],
    chat: bool = True,
    share: bool = False,
    seconds: float = 4.0,
) -> Task:
    """The task over items that are at hand."""

    def ask(item: Item) -> str:
        return f"{INSTRUCTION}\n\n```python\n{item.question.strip()}\n```\n"

    return coded_task("quixbugs", splits, ask, chat=chat, share=share, seconds=seconds)


def to_item(row: CodeRow, number: int) -> Item:
    """An item of a row."""
    slow = SLOW.get(row["id"], set())
    tests = of_calls(row["id"], [test for n, test in enumerate(row["tests"]) if n not in slow])
    code = Coded(row["id"], tests)
    return item_of(number, row["buggy"], row["correct"], code, {"id": row["id"]})

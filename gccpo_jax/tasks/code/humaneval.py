"""HumanEval, from the file as it was published (`task_id, prompt, entry_point, ...`)."""

from __future__ import annotations

from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.code.asserts import of_check
from gccpo_jax.tasks.code.coded import Coded, CodeRow, coded_task, item_of, reader

read_records = reader("task_id", "prompt", "entry_point", "canonical_solution", "test")
INSTRUCTION = "Complete this function. Answer with the whole function in one block of code."


def _ask(item: Item, chat: bool) -> str:
    return f"{INSTRUCTION}\n\n```python\n{item.question}```\n" if chat else item.question


of_splits = coded_task("humaneval", _ask)
"""The task. A response is the rest of the function, or a program that defines it."""


def to_item(row: CodeRow, number: int) -> Item:
    """An item of a row."""
    prompt, entry = row["prompt"], row["entry_point"]
    code = Coded(entry, of_check(prompt, row["test"], entry), prompt=prompt)
    return item_of(number, prompt, row["canonical_solution"], code, {"id": row["task_id"]})

"""HumanEval, from the file as it was published (`task_id, prompt, entry_point, ...`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.code.asserts import of_check
from gccpo_jax.tasks.code.coded import Coded, CodeRow, code_splits, coded_task, item_of, reader

read_records = reader("task_id", "prompt", "entry_point", "canonical_solution", "test")
INSTRUCTION = "Complete this function. Answer with the whole function in one block of code."


def humaneval(
    path: str = "",
    eval_path: str = "",
    chat: bool = True,
    share: bool = False,
    seconds: float = 2.0,
) -> Task:
    """The task. A response is the rest of the function, or a program that defines it.

    Args:
      path: questions to train on, or "". eval_path: held-out questions, or "".
      chat: ask in words; without it the prompt is the beginning of the function.
      share: the outcome is the share of tests that pass. seconds: of processor per program.
    """
    return of_splits(code_splits(path, eval_path, read_records, to_item), chat, share, seconds)


def of_splits(
    splits: Mapping[str, Sequence[Item]],
    chat: bool = True,
    share: bool = False,
    seconds: float = 2.0,
) -> Task:
    """The task over items that are at hand."""

    def ask(item: Item) -> str:
        return f"{INSTRUCTION}\n\n```python\n{item.question}```\n" if chat else item.question

    return coded_task("humaneval", splits, ask, chat=chat, share=share, seconds=seconds)


def to_item(row: CodeRow, number: int) -> Item:
    """An item of a row."""
    prompt, entry = row["prompt"], row["entry_point"]
    code = Coded(entry, of_check(prompt, row["test"], entry), prompt=prompt)
    return item_of(number, prompt, row["canonical_solution"], code, {"id": row["task_id"]})

"""Mathematics with open answers (MATH-500 and its like), compared by value."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from gccpo_jax.tasks.answers import last_boxed
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.checking.equality import open_math
from gccpo_jax.tasks.files import Record, file_splits
from gccpo_jax.tasks.rewrites import corrupt

INSTRUCTION = (
    "Solve it step by step, one step a line. "
    "End with a last line that holds the final answer in \\boxed{}."
)


def math(
    path: str,
    eval_path: str = "",
    held_out: int = 200,
    chat: bool = True,
    deadline_seconds: float = 5.0,
) -> Task:
    """The task, from files; arguments as in `gsm8k`.

    `deadline_seconds` limits one comparison; past it the response is unscorable.
    """
    return of_splits(file_splits(path, eval_path, held_out, to_item), chat, deadline_seconds)


def of_splits(
    splits: Mapping[str, Sequence[Item]], chat: bool = True, deadline_seconds: float = 5.0
) -> Task:
    """The task over items that are at hand (maybe none)."""
    return Task(
        name="math",
        splits=splits,
        prompt=lambda item: f"{item.question}\n\n{INSTRUCTION}\n",
        extract=last_boxed,
        verify=functools.partial(_verify, deadline_seconds),
        cues=("The answer is \\boxed{", "Final answer: \\boxed{"),
        same=functools.partial(_same, deadline_seconds),
        terminator="}",
        chat=chat,
        corrupt=corrupt,
    )


def to_item(record: Record, number: int) -> Item:
    """An item of a record; `answer` is LaTeX, in a box or bare."""
    answer = last_boxed(record.answer)
    return Item(
        id=number,
        question=record.question,
        answer=record.answer if answer is None else answer,
        solution=record.solution,
        meta={"id": record.id},
    )


def _same(deadline_seconds: float, one: str, other: str) -> bool:
    return one == other or open_math(one, f"\\boxed{{{other}}}", deadline_seconds) == 1.0


def _verify(deadline_seconds: float, item: Item, response: str) -> float | None:
    answer = last_boxed(response)
    if answer is None:
        return 0.0
    if answer == item.answer:
        return 1.0
    return open_math(item.answer, f"\\boxed{{{answer}}}", deadline_seconds)

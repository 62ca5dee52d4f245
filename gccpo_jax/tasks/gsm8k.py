"""Grade-school word problems with an integer answer (GSM8K and its like)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.answers import exact_integer, last_boxed, normalise_number
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.files import Record, file_splits
from gccpo_jax.tasks.rewrites import corrupt, rename

INSTRUCTION = (
    "Solve it in numbered steps, one step a line. "
    'End with a last line "#### " and the answer as a plain number.'
)
_NUMBER = r"-?\$?[0-9](?:[0-9,]*[0-9])?(?:\.[0-9]+)?"
_AFTER_MARK = re.compile(rf"\s*(?:\*+\s*)?({_NUMBER}|-\s[0-9]+)")


def gsm8k(path: str, eval_path: str = "", held_out: int = 200, chat: bool = True) -> Task:
    """The task, from files.

    Args:
        path: training questions; see `files.read_records` for what it may be.
        eval_path: held-out questions; without it see `files.file_splits`.
        held_out: how many questions of the file's end are held out without it.
        chat: render the prompt with the tokenizer's chat template.
    """
    return of_splits(file_splits(path, eval_path, held_out, to_item), chat)


def of_splits(splits: Mapping[str, Sequence[Item]], chat: bool = True) -> Task:
    """The task over items that are at hand (maybe none)."""
    return Task(
        name="gsm8k",
        splits=splits,
        prompt=prompt,
        extract=extract,
        verify=lambda item, response: exact_integer(item.answer, extract(response)),
        cues=("#### ", "The answer is "),
        ends=ends_number,
        chat=chat,
        surface=rename,
        corrupt=corrupt,
    )


def prompt(item: Item) -> str:
    """The question and how to answer it."""
    return f"{item.question}\n\n{INSTRUCTION}\n"


def extract(response: str) -> str | None:
    """The final number: after the last `####`, else in the last box, else the last one.

    >>> extract("1. 3 apples\\n#### $1,200.00"), extract("so \\\\boxed{7}, 8"), extract("it is 9.")
    ('1200', '7', '9')
    """
    _, mark, tail = response.rpartition("####")
    if mark and (found := _AFTER_MARK.match(tail)):
        return _plain(found[1])
    if (boxed := last_boxed(response)) is not None and re.search(_NUMBER, boxed):
        return _plain(re.findall(_NUMBER, boxed)[-1])
    numbers = re.findall(_NUMBER, response)
    return _plain(numbers[-1]) if numbers else None


def ends_number(piece: str) -> bool:
    """Whether a number is over when this text follows it; a full stop alone ends it.

    >>> [ends_number(piece) for piece in ("\\n", ".", " apples", "5", ",", ".5", "")]
    [True, True, True, False, False, False, False]
    """
    return bool(piece) and not re.match(r"[0-9,]|\.[0-9]", piece)


def _plain(number: str) -> str:
    return normalise_number(re.sub(r"[,$\s]", "", number))


def to_item(record: Record, number: int) -> Item:
    """An item of a record: either `answer` is the number, or it is GSM8K's own
    format, a solution whose last line is `#### ` and the number.
    """
    worked, mark, tail = record.answer.rpartition("####")
    answer = normalise_number(tail if mark else record.answer)
    if not re.fullmatch(r"-?[0-9]{1,18}", answer):
        raise UserError(
            f"{record.where}: 'answer' is {record.answer[-40:]!r}, not an integer; write a plain "
            'number, or a solution that ends in "#### <number>"; other answers: task "math"'
        )
    solution = worked if mark else record.solution
    return Item(
        id=number,
        question=record.question,
        answer=answer,
        solution=None if solution is None else numbered(solution, answer),
        meta={"id": record.id},
    )


def numbered(solution: str, answer: str) -> str:
    """A solution in the format the prompt asks for.

    >>> numbered("He has 2*3=<<2*3=6>>6.\\nSo 6.\\n#### 6", "6")
    '1. He has 2*3=6.\\n2. So 6.\\n#### 6'
    """
    text = re.sub(r"<<[^>]*>>", "", solution.partition("####")[0])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    steps = [f"{number}. {line}" for number, line in enumerate(lines, start=1)]
    return "\n".join([*steps, f"#### {answer}"])

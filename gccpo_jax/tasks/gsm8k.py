"""Grade-school word problems with an integer answer (GSM8K and its like)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.answers import boxes, exact_integer, normalise_number
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.files import Record, file_splits
from gccpo_jax.tasks.numbers import integer_of, is_heading, last_number, number_of
from gccpo_jax.tasks.rewrites import corrupt
from gccpo_jax.tasks.stated import Stated, final, prose, to_ascii
from gccpo_jax.tasks.word_problems import SURFACES, any_surface, hinted, marks, number

INSTRUCTION = (
    "Solve it in numbered steps, one step a line. "
    'End with a last line "#### " and the answer as a plain number.'
)
_MARK = re.compile(r"#{4,}\s*([^\n]*)")
_GOES_ON = re.compile(
    r"[0-9,/^:]|\.[0-9]|[kK]\b|\s*(?:hundred|thousand|(?:m|b|tr)illion)\b|\s+[*+=/x](?:\s|\Z)"
)
_DIGIT = re.compile(r"\d")


def gsm8k(
    path: str,
    eval_path: str = "",
    held_out: int = 200,
    chat: bool = True,
    surface: str = "names",
    hint: float = 0.0,
) -> Task:
    """The task, from files.

    Args:
        path: training questions; see `files.read_records` for what it may be.
        eval_path: held-out questions; without it see `files.file_splits`.
        held_out: how many questions of the file's end are held out without it.
        chat: render the prompt with the tokenizer's chat template.
        surface, hint: see `of_splits`.
    """
    return of_splits(file_splits(path, eval_path, held_out, to_item), chat, surface, hint)


def of_splits(
    splits: Mapping[str, Sequence[Item]],
    chat: bool = True,
    surface: str = "names",
    hint: float = 0.0,
) -> Task:
    """The task over items that are at hand (maybe none).

    Args:
        surface: the nuisance rewrite, one of `word_problems.SURFACES`, or "any" of them.
        hint: 0, or the chance that a sentence in each question names the right answer, not
            another; then there is a split "hint_wrong", the questions of "id" with wrong ones.
    """
    rewrites = SURFACES | {"any": any_surface}
    if surface not in rewrites:
        names = ", ".join(map(repr, rewrites))
        raise UserError(f"config.task.options.surface = {surface!r}: expected one of {names}")
    if not 0 <= hint <= 1:
        raise UserError(f"config.task.options.hint = {hint}: expected a number from 0 to 1")
    say = {}
    if hint:
        own = splits
        splits = {name: [hinted(item, hint) for item in items] for name, items in own.items()}
        if "id" in own:
            splits["hint_wrong"] = [hinted(item, 0.0) for item in own["id"]]
            say = {"hint_wrong": "the hint names a wrong answer"}
    return Task(
        name="gsm8k",
        splits=splits,
        prompt=prompt,
        extract=extract,
        stated=stated,
        verify=lambda item, response: exact_integer(item.answer, extract(response)),
        cues=("#### ", "The answer is "),
        ends=ends_number,
        chat=chat,
        surface=rewrites[surface],
        corrupt=corrupt,
        number=number,
        splits_say=say,
    )


def prompt(item: Item) -> str:
    """The question and how to answer it."""
    return f"{item.question}\n\n{INSTRUCTION}\n"


def extract(response: str) -> str | None:
    """The final number, see `stated`.

    >>> extract("1. 3 apples\\n#### $1,200.00"), extract("so \\\\boxed{7}, 8"), extract("it is 9.")
    ('1200', '7', '9')
    """
    return final(stated, response)


def stated(response: str) -> Iterator[Stated]:
    """Numbers that a response states: after `####`, else in boxes, else by "the answer is".

    The last one of the first kind that occurs is final; without any it is the response's last
    number. What states several ("#### 5 or 6") states no one number, and a mark without any
    says that there is none: neither falls back to the last number.
    """
    known = False
    mark = response.rfind("####")
    if mark >= 0 and (number := integer_of(response, mark + 4)) is not None:
        response = response[:mark].rstrip("#")
        yield Stated(number, len(response))
        known = True
    for phrase, start in _phrases(response):
        if _DIGIT.search(phrase):
            yield Stated(number_of(phrase), start)
            known = True
    if known:
        return
    marks = [start for phrase, start in _after_marks(response) if not is_heading(phrase)]
    if marks:
        yield Stated(None, marks[0])
    elif number := last_number(response):
        yield Stated(*number, marked=False)


def _phrases(response: str) -> Iterator[tuple[str, int]]:
    """What may state a number, and where it begins; the most binding kind first."""
    for phrase, start in _after_marks(response):
        if not is_heading(phrase):
            yield phrase, start
    yield from boxes(response)
    for start, phrase in prose(response):
        yield phrase, start


def _after_marks(response: str) -> Iterator[tuple[str, int]]:
    """The line behind each mark, and where the mark begins; the last first."""
    if "####" in response:
        for mark in reversed([*_MARK.finditer(response)]):
            yield mark[1], mark.start()


def ends_number(text: str) -> bool | None:
    """Whether a number is over when this text follows it; None: what is next decides.

    A full stop ends it unless a digit follows; "12k", "12 million" and "12 * 3" are others.

    >>> [ends_number(text) for text in ("\\n", ".", ".\\n", " apples", "5", ",", ".5", " *", "")]
    [True, None, True, True, False, False, False, False, False]
    """
    if text == ".":
        return None
    return bool(text) and not _GOES_ON.match(text)


def to_item(record: Record, number: int) -> Item:
    """An item of a record: either `answer` is the number, or it is GSM8K's own
    format, a solution whose last line is `#### ` and the number.
    """
    worked, mark, tail = record.answer.rpartition("####")
    answer = normalise_number(to_ascii(tail if mark else record.answer))
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
        meta={**record.labels, "id": record.id, "marks": marks(solution or "")},
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

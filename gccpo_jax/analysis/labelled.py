"""Questions with labelled steps from JSON Lines files, for the analysis of step credits.

One object per line. ProcessBench as it is:

    {"id": "gsm8k-0", "problem": "...", "steps": ["...", "..."], "label": 1}

or one label per step: `"labels": [1, 0, -1]` (right, neutral, wrong) as in PRM800K,
`[true, false]`, `["+", "-"]` as in Math-Shepherd, or the words of the chain suite's
checker. Labels of two kinds are `true` and `false`, not 1 and 0: 0 is neutral.
"""

from __future__ import annotations

import dataclasses
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.chain.check import LABELS
from gccpo_jax.tasks.json_rows import (
    check_object,
    check_unicode,
    json_lines,
    optional_text,
    question_field,
)

SHAPE = (
    '{"question": "...", "steps": ["...", "..."], "label": 1} with an optional "answer" and "id"'
)
# What the label of one step says, by the type it has in the file: right, wrong, or
# neither (None).
_NUMBERS = {1: True, 0: None, -1: False}
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(LABELS),  # filler, restatement, copy, irrelevant: neither
    **dict.fromkeys(("valid", "+"), True),
    **dict.fromkeys(("wrong_arithmetic", "wrong_operand", "early_answer", "-"), False),
}
_MEANINGS: dict[type, dict[Any, bool | None]] = {
    bool: {True: True, False: False},
    int: _NUMBERS,
    str: _WORDS,
}
_CHOICE = (
    "the index of the earliest wrong step (-1 for none), or a list with one entry per step: "
    f"numbers 1, 0, -1 (right, neutral, wrong), true or false, or words of {', '.join(_WORDS)}; "
    "null where a step is unlabelled"
)


@dataclasses.dataclass(frozen=True)
class LabelledRow:
    """One question, with a solution in steps and their labels where the file has them."""

    question: str
    steps: tuple[str, ...] | None  # as they are, an empty one too; None: a question only
    answer: str | None  # gold answer
    # One entry per step: True right, False wrong, None neutral or unknown. Behind the
    # earliest error of an index label everything is unknown. None without labels.
    valid: tuple[bool | None, ...] | None
    labels: int | tuple[int | bool | str | None, ...] | None  # as the file has them
    id: str  # the file's id, or where it stands
    where: str  # "file:line", for messages

    @property
    def earliest_error(self) -> int | None:
        """Index of the first step labelled wrong, -1 if none is, None without labels."""
        if self.valid is None:
            return None
        return self.valid.index(False) if False in self.valid else -1


def read_labelled(path: str) -> list[LabelledRow]:
    """All rows of a JSON Lines file.

    `question` may be called `problem`; `steps`, `answer`, `id`, and `label` (or
    `labels`) are optional and other fields are not looked at. Steps may be empty
    strings, and `steps` an empty list.

    Raises:
        UserError: no such file, no rows in it, or a malformed row.
    """
    file = pathlib.Path(path).expanduser()
    rows = [_row(row, where) for row, where in json_lines(file, SHAPE)]
    if not rows:
        raise UserError(f"{path}: no rows in it; expected one object per line, {SHAPE}")
    return rows


def _row(row: Any, where: str) -> LabelledRow:
    check_object(row, where, SHAPE)
    steps = _steps(row, where)
    labels, valid = _labels(row, steps, where)
    return LabelledRow(
        question=question_field(row, where, SHAPE),
        steps=steps,
        answer=optional_text(row, "answer", where, SHAPE),
        valid=valid,
        labels=labels,
        id=_id(row, where),
        where=where,
    )


def _steps(row: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    steps = row.get("steps")
    if steps is None:
        return None
    if not isinstance(steps, list):
        raise _wrong(where, "steps", steps, 'a list of strings, ["...", "..."]')
    for number, step in enumerate(steps):
        if not isinstance(step, str):
            raise _wrong(where, f"steps[{number}]", step, "a string in quotes")
        check_unicode(step, f"steps[{number}]", where)
    return tuple(steps)


def _labels(
    row: Mapping[str, Any], steps: tuple[str, ...] | None, where: str
) -> tuple[Any, tuple[bool | None, ...] | None]:
    """The labels as the row has them, and as validity."""
    names = [name for name in ("label", "labels") if row.get(name) is not None]
    if not names:
        return None, None
    if len(names) > 1:
        raise UserError(f"{where}: both 'label' and 'labels'; keep the one that is meant")
    name = names[0]
    value = row[name]
    if steps is None:
        raise UserError(f"{where}: {name!r} is {reprlib.repr(value)}, but there are no 'steps'")
    if type(value) is int:
        return value, _from_index(value, len(steps), name, where)
    if not isinstance(value, list):
        raise _wrong(where, name, value, _CHOICE)
    if len(value) != len(steps):
        raise UserError(
            f"{where}: {len(value)} entries in {name!r} for {len(steps)} steps; "
            "expected one per step, or one index of the earliest wrong step"
        )
    return tuple(value), _from_list(value, name, where)


def _from_index(label: int, steps: int, name: str, where: str) -> tuple[bool | None, ...]:
    if not -1 <= label < steps:
        expected = f"-1 (no error) or an index from 0 to {steps - 1}" if steps else "-1 (no steps)"
        raise _wrong(where, name, label, expected)
    if label == -1:
        return (True,) * steps
    return (*[True] * label, False, *[None] * (steps - label - 1))


def _from_list(labels: list[Any], name: str, where: str) -> tuple[bool | None, ...]:
    """Validity of each step; all entries that are not null must be of one kind.

    In JSON `true` and 1 differ, in Python they are equal: hence the exact types.
    """
    kinds = {type(label) for label in labels if label is not None}
    if len(kinds) > 1:
        mixed = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise _wrong(where, name, labels, f"entries of one kind instead of {mixed}: {_CHOICE}")
    table = _MEANINGS.get(kinds.pop()) if kinds else None
    for number, label in enumerate(labels):
        if label is not None and (table is None or label not in table):
            raise _wrong(where, f"{name}[{number}]", label, f"for the whole field {_CHOICE}")
    return tuple(None if label is None else table[label] for label in labels)


def _id(row: Mapping[str, Any], where: str) -> str:
    value = row.get("id")
    if value is None:
        return where
    if type(value) not in (str, int):
        raise _wrong(where, "id", value, "a string or an integer")
    check_unicode(str(value), "id", where)
    return str(value)


def _wrong(where: str, name: str, value: Any, expected: str) -> UserError:
    kind = type(value).__name__
    return UserError(f"{where}: {name!r} is {reprlib.repr(value)} ({kind}); expected {expected}")

"""What the programming tasks share: a question's program, its verdict, its rows."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.checking.code import Limits, Tests, Verdict, run_tests
from gccpo_jax.tasks.code.response import program_of
from gccpo_jax.tasks.json_rows import json_lines


@dataclasses.dataclass(frozen=True)
class Coded:
    """How responses to a question become programs and are judged (`item.meta["code"]`)."""

    entry: str  # the function that is asked for
    tests: Tests
    prompt: str = ""  # that a response completes, and whose imports a whole program keeps
    before: str = ""  # of every program: imports of the tests
    after: str = ""  # what the tests need beside the program

    def program(self, response: str) -> str:
        """The source that is run."""
        found = program_of(response, self.entry, self.prompt)
        return "\n".join(part for part in (self.before, found, self.after) if part)


LIMITS = Limits()


def coded_task(
    name: str, ask: Callable[[Item, bool], str], allowed: float = LIMITS.seconds
) -> Callable[..., Task]:
    """The `of_splits` of a programming task.

    The answer of a response is the vector of its results ("1101"), so answer laws are laws of
    vectors (`marginals`). A response that cannot be scored has none.

    Args:
      ask: the prompt of a question, by whether to ask in words.
      allowed: seconds of processor per program, unless the option says another number.
    """

    def of_splits(
        splits: Mapping[str, Sequence[Item]],
        chat: bool = True,
        share: bool = False,
        seconds: float = allowed,
    ) -> Task:
        """The task over items that are at hand.

        Args:
          chat: ask in words, with the tokenizer's chat template.
          share: the outcome is the share of tests that pass, not whether all do.
          seconds: of processor per program.
        """
        limits = Limits(seconds)
        return Task(
            name=name,
            splits=splits,
            prompt=lambda item: ask(item, chat),
            extract=lambda response: None,  # it takes the question's tests to tell
            answer=lambda item, response: verdict(item, response, limits).answer,
            verify=partial(_verify, share, limits),
            cues=("# tests: ",),
            chat=chat,
        )

    return of_splits


def verdict(item: Item, response: str, limits: Limits = LIMITS) -> Verdict:
    """Which of the question's tests a response passes."""
    code: Coded = item.meta["code"]
    return run_tests(code.program(response), code.tests, limits)


def _verify(share: bool, limits: Limits, item: Item, response: str) -> float | None:
    passed = verdict(item, response, limits).passed
    if passed is None:
        return None
    return sum(passed) / len(passed) if share else float(all(passed))


def marginals(law: Mapping[str, float]) -> list[float]:
    """For each test the probability that it passes, under a law of result vectors.

    The law may be short of 1, by what is in no vector.

    >>> marginals({"11": 0.5, "10": 0.25, "00": 0.25})
    [0.75, 0.5]
    """
    total = sum(law.values())
    length = max(map(len, law), default=0)
    passes = [sum(p for answer, p in law.items() if answer[k] == "1") for k in range(length)]
    return [one / total if total else 0.0 for one in passes]


@dataclasses.dataclass(frozen=True)
class CodeRow:
    """One row of a file as it was published, and its "file:line"."""

    fields: Mapping[str, Any]
    where: str

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


def read_rows(path: str, needs: Sequence[str]) -> Iterator[CodeRow]:
    """The rows of a file.

    Raises:
      UserError: it cannot be read, or a row lacks a field.
    """
    expected = f"an object with {', '.join(needs)}"
    for fields, where in json_lines(pathlib.Path(path).expanduser(), expected):
        lacks = [n for n in needs if n not in fields] if isinstance(fields, dict) else needs
        if lacks:
            raise UserError(f"{where}: no {lacks[0]!r}; expected {expected}")
        yield CodeRow(fields, where)


def reader(*needs: str) -> Callable[[str, str], list[CodeRow]]:
    """A task's `read_records`: all rows of a file, whatever the split, with these fields."""
    return lambda path, split: list(read_rows(path, needs))


def item_of(number: int, question: str, solution: str, code: Coded, meta: dict[str, Any]) -> Item:
    """An item whose answer is that every test passes."""
    return Item(number, question, "1" * code.tests.count, solution, {**meta, "code": code})

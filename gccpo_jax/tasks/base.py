"""What a task is: questions, answers and, where it can, exact rewrites.

A task is a value, not a class to inherit from: a frozen record of plain
functions on text. Everything here runs on the host; what the device needs
(tokens, spans, outcomes) is made from it in the room `sampling`.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Item:
    """One question."""

    id: int  # unique inside a task, fits in 32 bits: noise is a function of it
    question: str  # the question as text, before any chat template
    answer: str | None  # gold answer, normalised the way `extract` normalises; None: not known
    solution: str | None = None  # a worked solution in the task's own format (SFT target)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task:
    """The protocol of a task. Functions are pure; optional ones are None."""

    name: str
    splits: Mapping[str, Sequence[Item]]  # "train", "id", and any others to evaluate on
    prompt: Callable[[Item], str]  # what the policy reads (inside the chat template, if any)
    extract: Callable[[str], str | None]  # normalised final answer of a response, None if none
    verify: Callable[[Item, str], float | None]  # outcome of a *response* in [0, 1];
    # None: it cannot be scored (a verifier's deadline passed), it leaves the baseline
    boundary: str = "\n"  # a step ends with the token whose text contains it
    # Templates that ask for the answer at once, after a step boundary; the scored reader
    # averages over them. The first is how the answer field of a response begins.
    cues: tuple[str, ...] = ("#### ",)
    terminator: str = ""  # text that ends an answer; "" means the end of the text
    # Whether an answer is over when a token of this text follows it; None: where the
    # terminator begins. The end of the text always ends it.
    ends: Callable[[str], bool] | None = None
    chat: bool = False  # render `prompt` with the tokenizer's chat template
    system: str | None = None  # system message, with chat=True only
    # Nuisance rewrite: the same question and steps in other words, consistently.
    surface: (
        Callable[[Item, Sequence[str], np.random.Generator], tuple[Item, list[str]] | None] | None
    ) = None
    # Content rewrite of one step: one number replaced by another plausible one.
    corrupt: Callable[[str, np.random.Generator], str | None] | None = None
    # Equivariance rewrite: other numbers in question and steps together; the returned
    # item carries the new gold answer, everything else (cues included) is unchanged.
    number: (
        Callable[[Item, Sequence[str], np.random.Generator], tuple[Item, list[str]] | None] | None
    ) = None
    # Whether two normalised answers are the same; their probabilities are added up.
    same: Callable[[str, str], bool] = operator.eq
    # Labels of steps, one per step (see the task's own list of labels).
    check: Callable[[Item, Sequence[str]], list[str]] | None = None
    flaws: tuple[str, ...] = ()  # the labels of `check` that say that a step is wrong

    def is_over(self, piece: str) -> bool:
        """Whether an answer is over when a token of this text follows it."""
        if self.ends is not None:
            return self.ends(piece)
        end = self.terminator
        return bool(end and piece) and (piece.startswith(end) or end.startswith(piece))

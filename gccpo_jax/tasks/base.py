"""What a task is: questions, answers and, where it can, exact rewrites.

A task is a value, not a class to inherit from: a frozen record of plain
functions on text. Everything here runs on the host; what the device needs
(tokens, spans, outcomes) is made from it in the room `sampling`.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gccpo_jax.tasks.stated import Stated, field_start


@dataclasses.dataclass(frozen=True)
class Item:
    """One question."""

    id: int  # unique inside a task, fits in 32 bits: noise is a function of it
    question: str  # the question as text, before any chat template
    answer: str | None  # gold answer, normalised the way `extract` normalises; None: not known
    solution: str | None = None  # a worked solution in the task's own format (SFT target)
    # The task's own; "template" is "<wording>/<what else stays when numbers are drawn anew>".
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Rewriting = tuple[Item, list[str]] | None
"""The question and its steps after a rewrite; None where the rewrite does not apply."""

Rewrite = Callable[[Item, Sequence[str], np.random.Generator], Rewriting]


@dataclasses.dataclass(frozen=True)
class Harness:
    """Who scores the responses of a task elsewhere, and what it reads."""

    name: str
    line: Callable[[str, str, str], dict[str, Any]]  # of (question's id, model, response)
    # What can be told here of a response: {"parses": bool, "applies": bool or None (not known)}.
    check: Callable[[Item, str], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Task:
    """The protocol of a task. Functions are pure; optional ones are None."""

    name: str
    splits: Mapping[str, Sequence[Item]]  # "train", "id", and any others to evaluate on
    prompt: Callable[[Item], str]  # what the policy reads (inside the chat template, if any)
    extract: Callable[[str], str | None]  # normalised final answer of a response, None if none
    verify: Callable[[Item, str], float | None]  # outcome of a *response* in [0, 1];
    # None: it cannot be scored (a verifier's deadline passed), it leaves the baseline
    needs_gold: bool = True  # whether `verify` compares with the gold answer
    # Every answer that a response states and where, the final one first; `extract` is the first
    # of them. None: readers stop at the last cue, else at the last mention of the answer.
    stated: Callable[[str], Iterable[Stated]] | None = None
    # The normalised answer of a response where it takes the question to tell (results of its
    # tests); None: `extract`.
    answer: Callable[[Item, str], str | None] | None = None
    boundary: str = "\n"  # a step ends with the token whose text contains it
    # Templates that ask for the answer at once, after a step boundary; the scored reader
    # averages over them. The first is how the answer field of a response begins.
    cues: tuple[str, ...] = ("#### ",)
    terminator: str = ""  # text that ends an answer; "" means the end of the text
    # Whether an answer is over when this text follows it (None: it depends on what follows that
    # text); no function: where the terminator begins. The end of the text always ends it.
    ends: Callable[[str], bool | None] | None = None
    chat: bool = False  # render `prompt` with the tokenizer's chat template
    system: str | None = None  # system message, with chat=True only
    # Nuisance rewrite: the same question and steps (of all trajectories of the question) in
    # other words, consistently.
    surface: Rewrite | None = None
    # Content rewrite of one step: one number replaced by another plausible one.
    corrupt: Callable[[str, np.random.Generator], str | None] | None = None
    # Equivariance rewrite: other numbers in question and steps together; the returned
    # item carries the new gold answer, everything else (cues included) is unchanged.
    number: Rewrite | None = None
    # Whether two normalised answers are the same; their probabilities are added up.
    same: Callable[[str, str], bool] = operator.eq
    # Labels of steps, one per step (see the task's own list of labels).
    check: Callable[[Item, Sequence[str]], list[str]] | None = None
    flaws: tuple[str, ...] = ()  # the labels of `check` that say that a step is wrong
    # The first steps of the worked solution and then one that is not valid: judges of steps are
    # asked about flaws that a policy rarely writes.
    inject: Callable[[Item, np.random.Generator], list[str]] | None = None
    harness: Harness | None = None  # `evaluate` writes predictions for it
    # What a split is, in a few words, for the table at the end of a run.
    splits_say: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def answer_of(self, item: Item, response: str) -> str | None:
        """The normalised final answer of a response to a question, None if it has none."""
        return self.extract(response) if self.answer is None else self.answer(item, response)

    def is_over(self, text: str) -> bool | None:
        """Whether an answer is over when this text follows it; None: the next token decides."""
        if self.ends is not None:
            return self.ends(text)
        end = self.terminator
        if not (end and text):
            return False
        if len(text) == 1 < len(end) and end.startswith(text):
            return None  # "<" may begin "</answer>", or be a part of the answer
        return text.startswith(end) or end.startswith(text)

    def states_answer(self, text: str) -> bool:
        """Whether a text has an answer field: a mark, a box or words that state an answer."""
        if self.stated is not None:
            return any(one.marked for one in self.stated(text))
        return self.cues[0].strip() in text

    def field_start(self, response: str) -> int:
        """Character at which the answer field of a response begins; its length without one.

        That is the first statement of the final answer, in any spelling the task calls the
        same: a reader that sees a stated answer would only repeat it.
        """
        if self.stated is not None:
            return field_start(self.stated(response), self.same, response)
        place = response.rfind(self.cues[0].strip())
        if place < 0 and (answer := self.extract(response)):
            place = response.rfind(answer)
        return len(response) if place < 0 else place

"""Candidate answers of a question and where a response states its answer, on the host.

Functions of ids and texts only, so a resumed run repeats them.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence

import numpy as np

from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.types import Candidates

_GUESSES = 5
"""Prefixes that are tried by the lengths of pieces, two as a rule; then halving."""


def answer_start(task: Task, tokenizer: Tokenizer, tokens: np.ndarray, text: str) -> int:
    """Index of the token at which the answer field begins, see `Task.field_start`.

    A response without an answer is read at its end. Readers stop before the field.
    """
    place = task.field_start(text)
    if place >= len(text):
        return len(tokens)
    known = tokens < tokenizer.vocab_size
    ends = np.cumsum(np.where(known, tokenizer.characters[np.where(known, tokens, 0)], 0))
    low, high, more = 0, len(tokens), 0  # characters that a text has more than its pieces
    for tried in itertools.count():  # the first prefix whose text reaches beyond the place
        if low == high:
            return low
        guess = (
            np.searchsorted(ends, place - more, "right") if tried < _GUESSES else high + low >> 1
        )
        middle = min(max(int(guess), low), high - 1)
        size = len(tokenizer.decode(tokens[: middle + 1], skip_special=True))
        low, high = (low, middle) if size > place else (middle + 1, high)
        more = size - ends[middle]


def answer_starts(
    task: Task, tokenizer: Tokenizer, tokens: np.ndarray, lengths: np.ndarray, texts: np.ndarray
) -> np.ndarray:
    """`answer_start` of every trajectory, int32 [B, G]."""
    starts = np.zeros(lengths.shape, np.int32)
    for index in np.ndindex(*lengths.shape):
        own = tokens[index][: lengths[index]]
        starts[index] = answer_start(task, tokenizer, own, texts[index])
    return starts


def candidates_of(
    task: Task,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    texts: np.ndarray,
    *,
    count: int,
    max_tokens: int,
) -> tuple[Candidates, list[list[str]]]:
    """The candidate answers of each question, fixed before any intervention.

    The gold answer comes first (where it is known), then the group's distinct extracted
    answers, most frequent first (ties in order of appearance). Answers that the task
    calls the same are counted with the first of them. An answer longer than
    `max_tokens` (with the one that ends it) is no candidate.

    Returns:
      `Candidates` [B, C, A] as numpy arrays, and the answers in the same order. Where the
      gold answer is no candidate, row 0 does not exist and its answer is "".
    """
    width = max_tokens - 1  # what ends an answer is the last token
    shape = (len(items), count)
    tokens = np.zeros((*shape, width), np.int32)
    mask = np.zeros((*shape, width), bool)
    exists = np.zeros(shape, bool)
    counted_as = np.tile(np.arange(count, dtype=np.int32), (len(items), 1))
    answers: list[list[str]] = []
    for b, item in enumerate(items):
        found = collections.Counter(task.answer_of(item, text) for text in texts[b])
        ranked = [answer for answer, _ in found.most_common() if answer not in (None, item.answer)]
        kept: list[str] = []
        for answer in [item.answer or "", *ranked]:
            ids = tokenizer.encode(answer)
            fits = answer != "" and len(ids) <= width
            if len(kept) == count or (kept and not fits):
                continue
            row = len(kept)
            kept.append(answer if fits else "")
            if not fits:
                continue
            tokens[b, row, : len(ids)] = ids
            mask[b, row, : len(ids)] = True
            exists[b, row] = True
            counted_as[b, row] = first_same(task, kept)
        answers.append(kept)
    return Candidates(tokens, mask, exists, counted_as), answers


def first_same(task: Task, answers: Sequence[str]) -> int:
    """Index of the first answer that the task calls the same as the last one."""
    matches = (n for n, answer in enumerate(answers) if answer and task.same(answer, answers[-1]))
    return next(matches, len(answers) - 1)

"""From questions to padded prompts, with a position that can be saved.

The order of training questions is a function of the seed and the position
alone (Grain's random-access shuffle), so a saved position is one number and a
resumed run reads what an uninterrupted one would have read. A batch never
holds a question twice: each epoch is a new order, and what does not fill a last
batch is left out of that epoch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.types import Prompts

_log = logging.getLogger(__name__)


class PromptTokenizer(Protocol):
    """The part of a tokenizer that prompts need."""

    @property
    def pad_id(self) -> int: ...

    def render(self, prompt: str, system: str | None = None, chat: bool = True) -> list[int]: ...


@dataclasses.dataclass(frozen=True)
class Questions:
    """Questions of a split that fit, with their prompts as token ids."""

    items: tuple[Item, ...]
    tokens: tuple[tuple[int, ...], ...]  # one row per item, none longer than `width`
    width: int  # S: prompts are padded to it
    pad_id: int
    skipped: int  # questions left out because their prompt is longer

    def prompts(self, rows: Sequence[int]) -> Prompts:
        """The prompts of some rows, right padded, as NumPy arrays [B, S]."""
        tokens, mask = token_rows([self.tokens[row] for row in rows], self.width, self.pad_id)
        ids = np.array([self.items[row].id for row in rows], np.uint32)
        return Prompts(tokens=tokens, mask=mask, ids=ids)


def token_rows(
    rows: Sequence[Sequence[int] | np.ndarray], width: int, pad_id: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of some texts as an array [N, width] int32, right padded, and its mask."""
    tokens = np.full((len(rows), width), pad_id, np.int32)
    mask = np.arange(width) < np.array([len(row) for row in rows], int)[:, None]
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    return tokens, mask


def load_questions(
    task: Task, split: str, tokenizer: PromptTokenizer, max_prompt_tokens: int, limit: int = 0
) -> Questions:
    """Tokenises a split; prompts over the limit are counted, reported and left out.

    Args:
        task: where the split and the prompt's text come from.
        split: for example `"train"`.
        tokenizer: renders a prompt, with the chat template where the task asks for it.
        max_prompt_tokens: the fixed width S of prompts.
        limit: number of questions, from the first on; 0 takes all.

    Raises:
        UserError: there is no such split, or not one prompt of it fits.
    """
    if split not in task.splits:
        raise UserError(f"task {task.name} has no split {split!r}; it has {sorted(task.splits)}")
    items = list(task.splits[split])[: limit or None]
    rows = [tuple(tokenizer.render(task.prompt(i), task.system, task.chat)) for i in items]
    kept = [n for n, row in enumerate(rows) if 0 < len(row) <= max_prompt_tokens]
    if not kept:
        lengths = f"the shortest has {min(map(len, rows))}" if rows else "the split is empty"
        raise UserError(
            f"no prompt of {task.name}/{split} fits into data.max_prompt_tokens="
            f"{max_prompt_tokens} tokens ({lengths}); raise it"
        )
    skipped = len(rows) - len(kept)
    if skipped:
        _log.warning(
            "%s/%s: %d of %d questions skipped, longer than %d prompt tokens (longest %d)",
            *(task.name, split, skipped, len(rows), max_prompt_tokens, max(map(len, rows))),
        )
    return Questions(
        items=tuple(items[n] for n in kept),
        tokens=tuple(rows[n] for n in kept),
        width=max_prompt_tokens,
        pad_id=tokenizer.pad_id,
        skipped=skipped,
    )


class TrainBatches:
    """An endless iterator of `(items, prompts)` whose position can be saved.

    Args:
        questions: what to read.
        batch_size: B, questions of a batch; no more than there are.
        seed: of the order.
        shuffle: a new order each epoch; otherwise that of the file, whose last
            `len(questions) % batch_size` questions are then never read.
    """

    def __init__(
        self, questions: Questions, batch_size: int, seed: int, shuffle: bool = True
    ) -> None:
        import grain  # here, not above: evaluation and the command line start without it

        count = len(questions.items)
        if batch_size > count:
            raise UserError(
                f"batch_size={batch_size} is more than the {count} training questions; "
                "lower it or use more questions"
            )
        rows = grain.MapDataset.source(range(count)).seed(seed % 2**32)
        rows = rows.shuffle() if shuffle else rows
        rows = rows.batch(batch_size, drop_remainder=True).repeat()
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._questions = questions
        self._rows = iter(rows.to_iter_dataset(options))
        self._law = {"seed": seed, "batch_size": batch_size, "questions": count, "shuffle": shuffle}
        self._prompts = digest(questions)

    def __iter__(self) -> Iterator[tuple[list[Item], Prompts]]:
        return self

    def __next__(self) -> tuple[list[Item], Prompts]:
        rows = [int(row) for row in next(self._rows)]
        return [self._questions.items[row] for row in rows], self._questions.prompts(rows)

    def get_state(self) -> dict[str, Any]:
        """The position, fit for JSON, with what the order depends on."""
        return {"grain": self._rows.get_state(), "prompts": self._prompts, **self._law}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called.

        Raises:
            UserError: the state is of another order (seed, batch size or data), or the prompts
                read otherwise than they did (a state of before they were kept says nothing).
        """
        found = {name: state.get(name) for name in self._law}
        if found != self._law:
            raise UserError(
                f"the saved data position is of {found}, this run reads {self._law}; "
                "resume with the same data, seed and batch size, or start afresh"
            )
        if state.get("prompts", self._prompts) != self._prompts:
            raise UserError(
                f"the prompts have other tokens than when the run began (digest {self._prompts} "
                f"here, {state['prompts']} there): questions, tokenizer, chat template or the "
                "version of transformers changed; bring them back, or start afresh"
            )
        self._rows.set_state(state["grain"])


def digest(questions: Questions) -> str:
    """16 hex digits that differ where a prompt differs in one token, or in its place."""
    found = hashlib.sha256()
    for row in questions.tokens:
        found.update(np.array([len(row), *row], np.int64).tobytes())
    return found.hexdigest()[:16]


def eval_batches(
    questions: Questions, batch_size: int
) -> Iterator[tuple[list[Item], Prompts, np.ndarray]]:
    """Every question once, in order, in batches of one shape.

    Yields `(items, prompts, weight)`; the last batch is filled up with its first
    question at weight 0 (float32 [B]), so sums must be weighted.
    """
    count = len(questions.items)
    for start in range(0, count, batch_size):
        real = list(range(start, min(start + batch_size, count)))
        rows = real + [start] * (batch_size - len(real))
        weight = (np.arange(batch_size) < len(real)).astype(np.float32)
        yield [questions.items[row] for row in rows], questions.prompts(rows), weight


def round_up(tokens: int, to: int = 32) -> int:
    """The next multiple of `to`: few widths, so that few shapes compile."""
    return max(to, -(-tokens // to) * to)

"""From tokens to texts and verified outcomes, on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.runtime.distributed import divided
from gccpo_jax.tasks.base import Item, Task


def decode_all(tokenizer: Tokenizer, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Texts [...] (dtype object) of tokens [..., T] cut at `lengths` [...], specials left out."""
    texts = np.empty(lengths.shape, dtype=object)
    for index in np.ndindex(*lengths.shape):
        texts[index] = tokenizer.decode(tokens[index][: lengths[index]], skip_special=True)
    return texts


def outcomes(task: Task, items: Sequence[Item], texts: np.ndarray) -> np.ndarray:
    """Verified outcomes [B, ...] in [0, 1] of response texts [B, ...]; NaN: unscorable."""

    def of_question(b: int) -> np.ndarray:
        scores = np.empty(texts.shape[1:], np.float32)
        for index in np.ndindex(*scores.shape):
            score = verified(task, items[b], texts[b][index])
            scores[index] = np.nan if score is None else score
        return scores

    return divided(of_question, len(items))


def verified(task: Task, item: Item, text: str) -> float | None:
    """The outcome of one response; None where it cannot be scored, or lacks a gold answer."""
    return task.verify(item, text) if can_score(task, item) else None


def can_score(task: Task, item: Item) -> bool:
    """Whether the task scores responses to this question at all."""
    return item.answer is not None or not task.needs_gold


def step_texts(
    tokenizer: Tokenizer, tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> list[str]:
    """The text of each step of one trajectory."""
    pairs = zip(starts, ends, strict=True)
    return [tokenizer.decode(tokens[a:b], skip_special=True) for a, b in pairs]


def asked_of(
    tokenizer: Tokenizer,
    items: Sequence[Item],
    tokens: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    mask: np.ndarray,
) -> tuple[np.ndarray, list[tuple[str, list[str]]]]:
    """What a scorer of steps is asked: (question, steps) of every trajectory that has any.

    Args: B items; tokens [B, G, T]; start, end, mask [B, G, E] of the steps.
    Returns:
      The trajectories' places [N, 2] in [B, G], and N questions with their steps.
    """
    places = np.argwhere(mask.any(-1))
    asked = []
    for b, g in places:
        ends = start[b, g][mask[b, g]], end[b, g][mask[b, g]]
        asked.append((items[b].question, step_texts(tokenizer, tokens[b, g], *ends)))
    return places, asked

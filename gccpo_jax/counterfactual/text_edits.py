"""Edits of steps that need their text: `corrupt`, and the filter of `equivalent`.

On the host, for a whole batch; a function of ids and texts only.
"""

from __future__ import annotations

import numpy as np

from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.reward.arms import Edits, Family
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.traces import Seen
from gccpo_jax.tasks.base import Task
from gccpo_jax.tasks.numbers import last_number
from gccpo_jax.types import Spans


def claim(step: str) -> str:
    """What a step states: its last number, or its words where it has none or ends in an expression.

    >>> claim("Ana 3 + 4 = 7 pens"), claim("So let us  go on .")
    ('7', 'so let us go on .')
    """
    found = last_number(step)
    return found[0] if found and found[0] is not None else " ".join(step.lower().split())


def width_of(longest: int) -> int:
    """W for steps of up to `longest` tokens: 8, 16, 32, ..., so that few shapes compile."""
    return max(8, 1 << (longest - 1).bit_length())


def trim(edits: Edits) -> Edits:
    """The same edits without columns that none of them uses."""
    width = width_of(int(to_host(edits.length).max(initial=1)))
    tokens = to_host(edits.tokens)
    missing = max(0, width - tokens.shape[-1])
    tokens = np.pad(tokens, [(0, 0)] * (tokens.ndim - 1) + [(0, missing)])[..., :width]
    return Edits(tokens, to_host(edits.length), to_host(edits.usable), edits.family)


def corrupt(seen: Seen, spans: Spans, *, arms: int, max_tokens: int) -> Edits:
    """One number of each step [B, G, E] replaced by another plausible one (family: content).

    Arm p of step k is drawn from (seed, question id, trajectory, k, p). Unusable where
    the task cannot corrupt the step (no number in it) or the result has more than
    `max_tokens` tokens.

    Returns:
      Edits [B, G, E, P, W] as numpy arrays.
    """
    task, tokenizer, traces = seen.solver.task, seen.solver.tokenizer, seen.traces
    mask, starts, ends = (to_host(x) for x in (spans.mask, spans.start, spans.end))
    found: dict[tuple[int, ...], list[int]] = {}
    for b, g, k in zip(*np.nonzero(mask & (ends > starts)), strict=True):
        own = traces.tokens[b, g, starts[b, g, k] : ends[b, g, k]]
        text = tokenizer.decode(own, skip_special=True)
        for p in range(arms):
            rng = np.random.default_rng([*traces.seed, traces.items[b].id, int(g), int(k), p])
            changed = task.corrupt(text, rng) if task.corrupt else None
            ids = [] if changed is None else tokenizer.encode(changed)
            if 0 < len(ids) <= max_tokens:
                found[b, g, k, p] = ids
    return from_lists((*mask.shape, arms), found, Family.CONTENT)


def from_lists(
    shape: tuple[int, ...], found: dict[tuple[int, ...], list[int]], family: Family
) -> Edits:
    """Edits [*shape, W] from token ids at some indices; unusable elsewhere."""
    width = width_of(max(map(len, found.values()), default=1))
    tokens = np.zeros((*shape, width), np.int32)
    length = np.zeros(shape, np.int32)
    for index, ids in found.items():
        tokens[index][: len(ids)] = ids
        length[index] = len(ids)
    return Edits(tokens, length, length > 0, family)


def equivalent(
    tokenizer: Tokenizer, resampled: Edits, own: Edits, task: Task | None = None
) -> Edits:
    """Resamples that state what the step stated (family: nuisance).

    One in which the task finds a final answer ("#### 7") is none of them: a reader would repeat it.

    With fewer than two distinct ones among a step's arms none is usable: a policy that
    writes but one thing says nothing about other wordings of it.

    Args:
      resampled: [..., E, P, W] from the policy. own: [..., E, 1, W] the steps as they were.
    """
    tokens, length, usable = (
        to_host(x) for x in (resampled.tokens, resampled.length, resampled.usable)
    )
    own_tokens, own_length = to_host(own.tokens), to_host(own.length)
    kept = np.zeros(usable.shape, bool)
    for index in np.argwhere(to_host(own.usable)[..., 0]):
        step = tuple(index)
        stated = claim(_text(tokenizer, own_tokens[step][0], own_length[step][0]))
        texts = [_text(tokenizer, t, n) for t, n in zip(tokens[step], length[step], strict=True)]
        same = np.array([claim(text) == stated for text in texts], bool) & usable[step]
        if task is not None:
            same &= ~np.array([task.states_answer(text) for text in texts], bool)
        distinct = {text for text, good in zip(texts, same, strict=True) if good}
        kept[step] = same & (len(distinct) >= 2)
    return Edits(resampled.tokens, resampled.length, kept, Family.NUISANCE)


def kept_fraction(edits: Edits, of: np.ndarray) -> float:
    """Share of arms that are usable among those of the steps `of` [..., E]; 0 without steps."""
    usable = to_host(edits.usable)[to_host(of)]
    return float(usable.mean()) if usable.size else 0.0


def _text(tokenizer: Tokenizer, tokens: np.ndarray, length: int) -> str:
    return tokenizer.decode(tokens[:length], skip_special=True)

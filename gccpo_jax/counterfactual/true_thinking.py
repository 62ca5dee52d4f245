"""The true-thinking score of a step: whether the answer hangs on it, in two contexts.

    TTS_k = (|P(a* | c, s_k) - P(a* | c, s'_k)| + |P(a* | c', s_k) - P(a* | c', s'_k)|) / 2

c are the steps before it as they were and c' the same with a number of each replaced; s'_k is
the step with a number replaced, or no step where it has none (arXiv 2510.24941). Read by the
scored reader. It has no sign: a step that takes the right answer away scores like one that
gives it.
"""

from __future__ import annotations

import numpy as np

from gccpo_jax.counterfactual import step_edits
from gccpo_jax.counterfactual.places import Asked
from gccpo_jax.counterfactual.readers import laws_at
from gccpo_jax.counterfactual.text_edits import from_lists
from gccpo_jax.reward.arms import Edits, Family
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.sites import Sites

ALONE, KEPT, BOTH = range(3)
"""Arms: c s'_k, c' s_k, c' s'_k; the fourth text, c s_k, is the trajectory."""


def true_thinking(
    intact: np.ndarray, intact_without: np.ndarray, other: np.ndarray, other_without: np.ndarray
) -> np.ndarray:
    """TTS [...] in [0, 1] from P(a*) with and without the step, in either context.

    >>> round(float(true_thinking(0.9, 0.3, 0.4, 0.5)), 9)
    0.35
    """
    return (np.abs(intact - intact_without) + np.abs(other - other_without)) / 2


def true_thinking_scores(asked: Asked, before: np.ndarray) -> np.ndarray:
    """TTS [B, G, E] of every step; NaN where there is none or the gold answer is no candidate.

    A step inside the answer field is not read and scores 0. Costs three readings of each step,
    two of them with all that comes before it, and no branches.

    Args:
      before: laws [B, G, C + 1] before the first step.
    """
    reader, spans = asked.reader, asked.places.read_spans
    changes = step_edits.corrupted(asked, 1)
    edits, keep = _texts(asked, changes)
    end = to_host(spans.end)[..., None]
    sites = Sites(keep, edits.tokens, edits.length, np.broadcast_to(end, keep.shape), edits.usable)
    laws = laws_at(reader, sites, asked.candidates)
    alone, kept, both = np.moveaxis(to_host(laws)[..., 0], -1, 0)
    made, read = to_host(changes.usable)[..., 0], edits.usable[..., KEPT]
    first, factual = to_host(before)[..., 0][..., None], to_host(asked.factual)[..., 0]
    earlier = np.concatenate([first, factual[..., :-1]], -1)
    context = _context(first[..., 0], np.where(made, both, kept), read)
    found = true_thinking(
        factual,
        np.where(made, alone, earlier),
        np.where(read, kept, context),
        np.where(made, both, context),
    )
    known = to_host(spans.mask) & to_host(asked.candidates.exists)[:, 0][:, None, None]
    return np.where(known, np.where(to_host(spans.end) > to_host(spans.start), found, 0.0), np.nan)


def _texts(asked: Asked, changes: Edits) -> tuple[Edits, np.ndarray]:
    """Tokens of the three arms [B, G, E, 3, W], and how many of the trajectory's come first."""
    spans, tokens = asked.places.read_spans, asked.reader.traces.tokens
    start, end, mask = to_host(spans.start), to_host(spans.end), to_host(spans.mask)
    found: dict[tuple[int, ...], list[int]] = {}
    for b, g in np.ndindex(*mask.shape[:2]):
        context: list[int] = []
        for k in np.flatnonzero(mask[b, g]):
            own = tokens[b, g, start[b, g, k] : end[b, g, k]].tolist()
            size = changes.length[b, g, k, 0] if changes.usable[b, g, k, 0] else 0
            other = changes.tokens[b, g, k, 0, :size].tolist()
            if own:
                found[b, g, k, KEPT] = context + own
            if other:
                found[b, g, k, ALONE] = other
                found[b, g, k, BOTH] = context + other
            context = context + (other or own)
    edits = from_lists((*mask.shape, 3), found, Family.CONTENT)
    keep = np.zeros(edits.length.shape, np.int32)
    keep[..., ALONE] = start
    return edits, keep


def _context(first: np.ndarray, after: np.ndarray, read: np.ndarray) -> np.ndarray:
    """P(a*) [B, G, E] after c' alone: after the last step before k that was read, else `first`."""
    found = np.empty(after.shape, after.dtype)
    for k in range(after.shape[-1]):
        found[..., k] = first
        first = np.where(read[..., k], after[..., k], first)
    return found

"""Phi from a learned scorer, corrected by branches from some boundaries: `value = "learned"`.

    Phi_k = V_k + (z_k / q) (M_k - V_k),   z_k ~ Bernoulli(q),   M_k the mean of N branches

V is a control variate: whatever it says, the mean of Phi_k over the coins is that of M_k, and
branches are continued from a share q of the boundaries only. The variance beside M_k's own is
(1 - q) / q times the squared error of V: a scorer worse than the mean costs more than it saves.
The coins are a function of (seed, step, question, trajectory, boundary).
"""

from __future__ import annotations

import jax
import numpy as np

from gccpo_jax.counterfactual.places import Places
from gccpo_jax.policy.step_scorer import StepScorer
from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.outcomes import asked_of
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.types import Array


def coins(keys: Array, group: int, sites: int, share: float) -> Array:
    """z [B, G, K'] bool, each True with chance `share`, for question keys [B]."""
    of_group = jax.vmap(lambda key: noise.stream_keys(key, noise.LEARNED, group))(keys)
    draw = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (sites,))))
    return draw(of_group) < share


def corrected(
    learned: np.ndarray, measured: np.ndarray, drawn: np.ndarray, share: float
) -> np.ndarray:
    """Phi [...] from V, M and z; V alone where M is NaN, M alone where V is.

    Not clipped to [0, 1]: that would bias it. Example: V .5, M 1, q .25: 2.5 or .5.
    """
    moved = learned + np.where(drawn, measured - learned, 0.0) / share
    known = np.where(np.isnan(moved), learned, moved)
    return np.where(np.isnan(known), measured, known).astype(np.float32)


def learned_values(
    scorer: StepScorer, tokenizer: Tokenizer, traces: Traces, places: Places
) -> np.ndarray:
    """V [B, G, E] after each macro-step: the scorer's word on the step that ends there."""
    steps = [to_host(x) for x in (places.steps.start, places.steps.end, places.steps.mask)]
    _, end, mask = steps
    stops, exists = to_host(places.spans.end), to_host(places.spans.mask)
    rows, asked = asked_of(tokenizer, traces.items, traces.tokens, *steps)
    value = np.full(stops.shape, np.nan, np.float32)
    for (b, g), scores in zip(rows, scorer.many(asked), strict=True):
        at = np.searchsorted(end[b, g][mask[b, g]], stops[b, g]).clip(max=len(scores) - 1)
        value[b, g] = np.where(exists[b, g], scores[at], np.nan)
    return value


def foretold(
    told: np.ndarray, measured: np.ndarray, drawn: Array, share: float
) -> tuple[np.ndarray, float]:
    """Phi [B, G, E], NaN after the last macro-step, and the scorer's mean squared error.

    Args: told V and measured M [B, G, E]; drawn z [B, G, E - 1]; share q.
    """
    told = told.astype(np.float64)
    told[..., -1] = np.nan
    last = np.zeros((*told.shape[:2], 1), bool)
    where = np.concatenate([to_host(drawn), last], -1)
    apart = (told - measured)[where & np.isfinite(told) & np.isfinite(measured)]
    error = float(np.mean(apart**2)) if apart.size else 0.0
    return corrected(told, measured, where, share), error

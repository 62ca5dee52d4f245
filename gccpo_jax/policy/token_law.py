"""The law a token is drawn from: temperature, top-k and top-p belong to the mechanism.

Sampling and update call the same function, so the recorded behaviour
log-probability and the policy ratio speak of one law.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from gccpo_jax.config import SamplingConfig
from gccpo_jax.types import Array


def behaviour_rule(sampling: SamplingConfig) -> Rule:
    """The law that rollouts are sampled from and that the ratio is of."""
    return Rule(sampling.temperature, sampling.top_k, sampling.top_p)


EXCLUDED = -1e30
"""Log-probability of a token that the law excludes, and logit of a row of the vocabulary that has
no token (`model.make_policy`): finite, so that 0 * log 0 is 0."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How logits become a law. Hashable: a change of rule compiles anew."""

    temperature: float = 1.0  # >= 0; 0 is greedy: the point mass at the argmax
    top_k: int = 0  # keep the k most probable tokens; 0 keeps all
    top_p: float = 1.0  # keep the smallest set of mass >= p, in (0, 1]; 1 keeps all


def log_law(logits: Array, rule: Rule) -> Array:
    """Log-probabilities [..., V] in float32 of the law that `rule` makes of logits [..., V].

    Order: temperature, then top-k, then top-p on what is left, then normalise.
    Ties at the k-th or nucleus threshold are kept. At temperature 0 the law is a
    point mass: log-probability 0 at the (first) argmax.
    """
    logits = logits.astype(jnp.float32)
    if rule.temperature == 0:
        best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
        return jnp.where(best, 0.0, EXCLUDED)
    scaled = jnp.maximum(logits / rule.temperature, EXCLUDED)  # what was excluded stays finite
    if 0 < rule.top_k < logits.shape[-1]:
        threshold = jax.lax.top_k(jax.lax.stop_gradient(scaled), rule.top_k)[0][..., -1:]
        scaled = jnp.where(scaled >= threshold, scaled, EXCLUDED)
    if rule.top_p < 1:
        threshold = _nucleus_threshold(jax.lax.stop_gradient(scaled), rule.top_p)
        scaled = jnp.where(scaled >= threshold, scaled, EXCLUDED)
    return jax.nn.log_softmax(scaled, axis=-1)


def first_best(scores: Array) -> Array:
    """Index [] int32 of the greatest of scores [V], the first of equal ones.

    What `jnp.argmax` finds, as two plain reductions: a reduction that carries an index along
    is not vectorised on CPU, and would compute the noise that is fused into it one by one.
    """
    size = scores.shape[0]
    at_best = jnp.where(scores == jnp.max(scores), jnp.arange(size), size - 1)
    return jnp.min(at_best).astype(jnp.int32)


def entropy(log_probs: Array) -> Array:
    """Entropy [...] in nats of laws [..., V]; excluded tokens count 0."""
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def _nucleus_threshold(scaled: Array, top_p: float) -> Array:
    """The smallest logit [..., 1] of the nucleus: tokens whose more probable ones hold < p."""
    ordered = jnp.sort(scaled, axis=-1, descending=True)
    probs = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs
    return jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)

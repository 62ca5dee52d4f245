"""Controls that keep a trajectory's credit and give it to the wrong steps.

    permuted  the steps' advantages in another order, by key
    inverted  A'_k = 2 mean A - A_k: the best step of a trajectory becomes its worst

Outcome and size of the credit stay what they were, only where it goes changes. An arm that
does as well as the method with either of them does not owe it to step credit.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from gccpo_jax import noise
from gccpo_jax.advantage import token_mean
from gccpo_jax.credit_rule import Credit, CreditRule, spread_all, tokens_of
from gccpo_jax.types import Array, Rollout, Spans


def controlled(
    credit: Credit, spans: Spans, rollout: Rollout, question_key: Array, *, rule: CreditRule
) -> Credit:
    """The credit of one group under `rule.control`; scores of steps stay as they were measured.

    `question_key` [] is the question's key of this optimisation step.
    """
    if rule.control == "none":
        return credit
    per_step = credit.step_advantage
    if rule.control == "permuted":
        keys = noise.stream_keys(question_key, noise.PERMUTE, per_step.shape[0])
        per_step = jax.vmap(permuted)(keys, per_step, spans.mask)
    else:
        per_step = jax.vmap(inverted)(per_step, tokens_of(spans), spans.mask)
    return dataclasses.replace(
        credit, step_advantage=per_step, advantage=spread_all(per_step, spans, rollout, rule)
    )


def permuted(key: Array, per_step: Array, mask: Array) -> Array:
    """The selected entries of [E] in an order drawn by `key`; they must come first."""
    draw = jax.random.uniform(key, per_step.shape)
    order = jnp.argsort(jnp.where(mask, draw, jnp.inf), stable=True)
    return jnp.where(mask, per_step[order], 0.0)


def inverted(per_step: Array, tokens: Array, mask: Array) -> Array:
    """[E] mirrored at its mean over the tokens [E], which stays what it was.

    Example: (.3, -.1) with tokens (10, 30), mean 0, gives (-.3, .1).
    """
    mean, _ = token_mean(per_step, tokens, mask)
    return jnp.where(mask, 2.0 * mean - per_step, 0.0)

"""Places from which a policy goes on or is read: a cached prefix, then other tokens.

A site is do(S_k = s') in the cache: the first `keep` response tokens stay as they
are (a mask over the one segment that sampling left) and `tokens` follow. Only those
are encoded. A boundary of the trajectory itself is the site whose other tokens are
its last token, read once more to recover the hidden state that no cache holds.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.masked import masked_mean
from gccpo_jax.policy.cache import restrict
from gccpo_jax.policy.token_law import Rule, log_law
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.types import Array, Context, Params, Policy, Segment, Spans, record


@partial(jax.jit, static_argnames=("policy", "rule"))
def step_log_likelihood(
    policy: Policy,
    params: Params,
    prompt_tokens: Array,  # [B, S]
    prompt: Segment,  # [L, B, K, S, D]
    tokens: Array,  # [B, G, T]
    segment: Segment,  # [L, B, G, K, T, D]
    sites: Sites,  # [B, G, E, P, W]
    *,
    rule: Rule,
) -> Array:
    """Mean log-probability per token [B, G, E, P] of the sites' tokens after their prefixes.

    Positivity: a step that the policy would hardly write here is outside what its
    behaviour identifies (`swap` keeps those close to the factual step's value).
    """

    def trajectory(
        asked: Array, prompt: Segment, tokens: Array, segment: Segment, sites: Sites
    ) -> Array:
        length = jnp.sum(prompt.mask, dtype=jnp.int32)

        def one(site: Sites) -> Array:
            # The token before the site is read again: it predicts the site's first.
            before = boundary(asked, length, tokens, site.keep, site.exists)
            first, _ = enter(policy, params, prompt, length, segment, before)
            hidden, _ = enter(policy, params, prompt, length, segment, site)
            states = jnp.concatenate([first, hidden[:-1]])
            law = log_law(policy.logits(params, states), rule)
            chosen = jnp.take_along_axis(law, site.tokens[:, None], axis=1)[:, 0]
            return masked_mean(chosen, jnp.arange(site.tokens.shape[0]) < site.length)

        return jax.lax.map(jax.vmap(one), sites)

    of_group = jax.vmap(trajectory, in_axes=(None, None, 0, SEGMENT_AXES, 0))
    return jax.vmap(of_group, in_axes=(0, SEGMENT_AXES, 0, SEGMENT_AXES, 0))(
        prompt_tokens, prompt, tokens, segment, sites
    )


@record
class Sites:
    """One site; callers add the axes [B, G, E, ...]."""

    keep: Array  # [] int32  response tokens that stay; -1: nor does the prompt's last token
    tokens: Array  # [W] int32  what follows
    length: Array  # [] int32  how many of them, in [1, W]
    tape: Array  # [] int32  tape position of the first token after the site
    exists: Array  # [] bool


def boundary(
    prompt: Array, prompt_length: Array, tokens: Array, end: Array, exists: Array
) -> Sites:
    """The site after the first `end` tokens of a trajectory, end in [0, T].

    Args:
      prompt: [S]. prompt_length: []. tokens: [T]. end, exists: [].
    """
    last = jnp.where(end > 0, tokens[jnp.maximum(end - 1, 0)], prompt[prompt_length - 1])
    return Sites(end - 1, last[None], jnp.ones_like(end), end, exists)


def replaced(spans: Spans, tokens: Array, length: Array, usable: Array) -> Sites:
    """The sites [E, P] of steps whose tokens are replaced: do(S_k = s').

    The tape goes on from the factual step's end whatever the length of s', so arms are
    aligned by the offset after the step.

    Args:
      spans: [E]. tokens: [E, P, W]. length, usable: [E, P].
    """
    arms = jnp.ones_like(length)
    return Sites(
        keep=spans.start[:, None] * arms,
        tokens=tokens,
        length=length,
        tape=spans.end[:, None] * arms,
        exists=usable & spans.mask[:, None] & (length > 0),
    )


def context_of(prompt: Segment, length: Array, prefix: Segment, site: Sites) -> Context:
    """The cached tokens that a site keeps: masks over the same arrays.

    Args:
      prompt: [S] segment with `length` tokens. prefix: [T] the trajectory's segment.
    """
    zero = jnp.int32(0)
    return (
        restrict(prompt, zero, length + jnp.minimum(site.keep, 0)),
        restrict(prefix, zero, site.keep),
    )


def enter(
    policy: Policy, params: Params, prompt: Segment, length: Array, prefix: Segment, site: Sites
) -> tuple[Array, Segment]:
    """Reads a site's tokens on its cached prefix: hidden states [W, M] and their segment [W]."""
    size = site.tokens.shape[0]
    context = context_of(prompt, length, prefix, site)
    positions = length + site.keep + jnp.arange(size)
    mask = jnp.arange(size) < site.length
    return policy.encode(params, site.tokens, positions, mask, context)


def position_after(length: Array, site: Sites) -> Array:
    """Absolute position of the first token after a site, behind a prompt of `length` tokens."""
    return length + site.keep + site.length


def last_hidden(hidden: Array, site: Sites) -> Array:
    """The state [M] that the first token after a site is predicted from."""
    return jax.lax.dynamic_index_in_dim(hidden, site.length - 1, axis=0, keepdims=False)

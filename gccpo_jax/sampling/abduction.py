"""Abduction: the posterior of the exogenous noise behind a token that was sampled elsewhere.

For our own trajectories abduction is exact, the noise is its key (`noise.py`). A
trace without keys (a data set, another sampler) leaves a law of noise instead: the
tape given that X = argmax_v(log p_v + U_v) came out as w. With U_v iid Gumbel(0, 1)
and p normalised (top-down sampling, arXiv 1411.0030; counterfactuals, 1905.05824):

    G = max_v(log p_v + U_v) ~ Gumbel(0, 1),   independent of w
    U_w = G - log p_w
    log p_v + U_v ~ Gumbel(log p_v) truncated at G,   v != w

With the exponential clocks E_v = exp(-U_v), a race that the token of least E_v / p_v
wins, this is one line: the winner's clock is p_w e^-G, and the clock of every loser
starts anew where the race ended, E_v = E'_v + p_v e^-G with E'_v ~ Exp(1). A token
that the law excludes never ran, so its noise stays the prior's.

What is abducted this way is *a* draw from the posterior: quantities of one arm
keep their law, and quantities of two arms (flip rates) those of the Gumbel coupling.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.policy.logprobs import response_states
from gccpo_jax.policy.token_law import EXCLUDED, Rule, log_law
from gccpo_jax.sampling import noise
from gccpo_jax.types import Array, Params, Policy


def posterior(key: Array, log_law: Array, token: Array, margin: float = 0.0) -> Array:
    """Noise U [V] in float32 given that the law's token was `token`.

    argmax(log_law + U) == token for every key, bit by bit: see `condition`.

    Args:
      key: consumed. log_law: [V] normalised log-probabilities; `token_law.EXCLUDED` where a
        token cannot be drawn. token: [] int. margin: see `condition`.
    Returns:
      [V]; marginally iid Gumbel(0, 1) if `token` is drawn from the law.
    Both draws are those of the tape, `noise.gumbels`.
    """
    top_key, prior_key = jax.random.split(key)
    top = noise.gumbels(top_key, ())
    prior = noise.gumbels(prior_key, log_law.shape)
    return condition(log_law, token, top, prior, margin)


def condition(log_law: Array, token: Array, top: Array, prior: Array, margin: float = 0.0) -> Array:
    """The prior noise, moved to where `token` wins with score `top`.

        U_w = G - log p_w,   U_v = -log( e^{-U'_v} + p_v e^-G ),   v != w

    Rounding could let a loser tie with the winner, and the argmax takes the first: a
    loser's score is held at least a few units in the last place below.

    Args:
      log_law: [V]. token: [] int, w. top: [] G. prior: [V] U', iid Gumbel(0, 1).
      margin: >= 0, how far losers stay behind at least. Above 0 the token also wins
        under a law that differs by less than half of it, such as the same law computed
        by other kernels. A fraction (1 - p_w)(e^m - 1) / (1 + (1 - p_w)(e^m - 1)) of
        draws, less than m/(1 - m), is moved by it.
    Returns:
      [V]. An excluded `token`, which the law says cannot happen, is forced by noise of
      size 1e30 rather than refused; mask such traces by their log-probability.
    Example: p = (.5, .5), w = 0, G = 0, U' = (0, 0) gives (.693147, -.405465).
    """
    log_law = jnp.maximum(log_law.astype(jnp.float32), EXCLUDED)  # -inf would give inf - inf
    winner = top - log_law[token]
    score = log_law[token] + winner  # as the sampler adds them up: not always `top`
    losers = -jnp.logaddexp(-prior, log_law - top)
    unit = jnp.finfo(jnp.float32).eps
    rounding = 4 * unit * (jnp.abs(score) + jnp.abs(log_law)) + 1e-30
    losers = jnp.minimum(losers, score - log_law - jnp.maximum(rounding, margin))
    return jnp.where(jnp.arange(log_law.shape[0]) == token, winner, losers)


@partial(jax.jit, static_argnames=("policy", "rule", "margin", "chunk"))
def abduct(
    policy: Policy,
    params: Params,
    prompt_tokens: Array,  # [S] int32
    prompt_mask: Array,  # [S] bool
    tokens: Array,  # [T] int32
    mask: Array,  # [T] bool
    key: Array,
    rule: Rule,
    *,
    margin: float = 1e-4,
    chunk: int = 64,
) -> Array:
    """Noise U [T, V] in float32 behind one given trajectory, drawn from its posterior.

    The laws are those of `policy` with the trajectory's own tokens read (teacher
    forcing); position t uses `fold_in(key, t)`. Where `mask` is False there is nothing
    to explain and the noise is the keyed one: `noise.Tape(key, U)` replays the
    trajectory and goes on with `noise.gumbel(key, t)` after it.

    Args:
      prompt_tokens, prompt_mask: [S], right-padded. tokens, mask: [T], right-padded, the
        stop token included. key: a tape key (`noise.tape`), never one that sampled.
      rule: the rule that is held to have drawn the trace; a token it excludes is forced.
      margin: see `condition`. The default bridges the float32 rounding between this pass and
        decoding token by token; in bfloat16 ask for more.
      chunk: positions whose logits are made at once; the result itself is T x V.
    """
    states = response_states(policy, params, prompt_tokens, prompt_mask, tokens[None], mask[None])[
        0
    ]

    def at(inputs: tuple[Array, Array, Array, Array]) -> Array:
        t, state, token, observed = inputs
        law = log_law(policy.logits(params, state), rule)
        explained = posterior(jax.random.fold_in(key, t), law, token, margin)
        return jnp.where(observed, explained, noise.gumbel(key, t, policy.vocab_size))

    size = tokens.shape[0]
    positions = jnp.arange(size)
    return jax.lax.map(at, (positions, states, tokens, mask), batch_size=min(chunk, size))

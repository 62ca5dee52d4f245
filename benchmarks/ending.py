"""A policy whose responses end by chance, whatever its weights say: lengths that spread 1:8."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.types import Array, Context, Decoder, Params, Policy, Segment


def ending(policy: Policy, *, stop: int, hazard: float, start: int = 0, first: int = 1) -> Policy:
    """The policy, drawing `stop` with probability `hazard` from a response's `first` token on.

    The position of a token is one more number of its hidden state; responses begin at `start`.
    """

    def step(
        params: Params, token: Array, position: Array, past: Context, own: Segment, slot: Array
    ) -> tuple[Array, Segment]:
        hidden, own = policy.decoder.step(params, token, position, past, own, slot)
        return jnp.append(hidden, position.astype(hidden.dtype)), own

    def encode(
        params: Params, tokens: Array, positions: Array, mask: Array, past: Context
    ) -> tuple[Array, Segment]:
        hidden, segment = policy.encode(params, tokens, positions, mask, past)
        return jnp.concatenate([hidden, positions[:, None].astype(hidden.dtype)], -1), segment

    def logits(params: Params, hidden: Array) -> Array:
        plain = policy.logits(params, hidden[..., :-1])
        written = hidden[..., -1:] + 1 - start
        odds = jnp.where(written < first - 1, -1e9, jnp.log(hazard / (1 - hazard)))
        others = jax.nn.logsumexp(plain, axis=-1, keepdims=True)
        return jnp.where(jnp.arange(policy.vocab_size) == stop, others + odds, plain)

    return Policy(encode, logits, policy.vocab_size, Decoder(policy.decoder.unroll, step))


def spread(policy: Policy, *, stop: int, prompt: int, response: int) -> Policy:
    """Lengths from `response` / 8, where a limit of `response` ends those that go on.

    From there on each token is the last with probability 4 / `response`, so most are short: a
    third of the limit on average.
    """
    return ending(policy, stop=stop, hazard=4 / response, start=prompt, first=response // 8)

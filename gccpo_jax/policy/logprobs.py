"""Log-probabilities of given responses: what the update differentiates.

The prompt is read once per question and shared by its group, as in sampling. The
logits of all tokens never exist at once: they are made in chunks of tokens and
made again in the backward pass. Responses that are laid end to end (`packing.py`)
are read so; what comes out has the places of the responses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.policy.packing import pack, unpack
from gccpo_jax.policy.token_law import Rule, entropy, log_law
from gccpo_jax.types import Array, Params, Policy, Segment


def response_states(
    policy: Policy, params: Params, prompt: Array, prompt_mask: Array, tokens: Array, mask: Array
) -> Array:
    """Hidden states [G, T, M] that predict each response token of one question's group.

    Args:
      prompt, prompt_mask: [S]. tokens, mask: [G, T], right-padded.
    """
    last, segment, length = read_prompt(policy, params, prompt, prompt_mask)

    def one(tokens: Array, mask: Array) -> Array:
        positions = length + jnp.arange(tokens.shape[0] - 1)
        hidden, _ = policy.encode(params, tokens[:-1], positions, mask[:-1], (segment,))
        return jnp.concatenate([last[None], hidden])

    return jax.vmap(one)(tokens, mask)


def packed_states(
    policy: Policy, params: Params, prompt: Array, prompt_mask: Array, tokens: Array, index: Array
) -> tuple[Array, Array]:
    """`response_states` of a group laid end to end: states [R, T, M], and the tokens [R, T].

    Args:
      prompt, prompt_mask: [S]. tokens: [G, T]. index: [R, T], see `packing.laid`.
    """
    last, segment, length = read_prompt(policy, params, prompt, prompt_mask)
    size, exists = tokens.shape[1], index < tokens.size
    place, sequence = index % size, index // size

    def one(tokens: Array, place: Array, sequence: Array, exists: Array) -> Array:
        given = (tokens[:-1], length + place[:-1], exists[:-1], (segment,), sequence[:-1])
        hidden, _ = policy.encode(params, *given)
        before = jnp.concatenate([last[None], hidden])
        return jnp.where((place == 0)[:, None], last, before)

    found = pack(tokens, index)
    return jax.vmap(one)(found, place, sequence, exists), found


def token_logp(
    policy: Policy,
    params: Params,
    prompt: Array,  # [B, S] int32
    prompt_mask: Array,  # [B, S] bool
    tokens: Array,  # [B, G, T] int32
    mask: Array,  # [B, G, T] bool
    index: Array | None = None,  # [B, R, T] int32
    *,
    rule: Rule,
    chunk: int = 1024,
) -> Array:
    """Log-probabilities [B, G, T] in float32 of the tokens under `rule`'s law; 0 where masked.

    `chunk` tokens' logits exist at a time (each chunk is recomputed in the backward
    pass), so memory is chunk x V instead of B x G x T x V. With an `index` (`packing.laid`), which
    holds every unmasked token, responses are read laid end to end.
    """
    given = (prompt, prompt_mask, tokens, mask, index)
    return _each_token(policy, params, *given, _chosen, rule=rule, chunk=chunk)


def token_logp_and_entropy(
    policy: Policy,
    params: Params,
    prompt: Array,
    prompt_mask: Array,
    tokens: Array,
    mask: Array,
    index: Array | None = None,
    *,
    rule: Rule,
    chunk: int = 1024,
) -> tuple[Array, Array]:
    """`token_logp` and the entropy [B, G, T] in nats of the law at each token; 0 where masked.

    Both come from the same chunks of logits, and both carry a gradient.
    """

    def both(law: Array, tokens: Array) -> tuple[Array, Array]:
        return _chosen(law, tokens), entropy(law)

    given = (prompt, prompt_mask, tokens, mask, index)
    return _each_token(policy, params, *given, both, rule=rule, chunk=chunk)


def _each_token(
    policy: Policy,
    params: Params,
    prompt: Array,
    prompt_mask: Array,
    tokens: Array,
    mask: Array,
    index: Array | None,
    statistic: Callable[[Array, Array], Any],
    *,
    rule: Rule,
    chunk: int,
) -> Any:
    """A `statistic` of `in_chunks` of each response token, [B, G, T]; 0 where masked."""
    batched = lambda read: jax.vmap(partial(read, policy, params))  # noqa: E731
    if index is None:
        states, read = batched(response_states)(prompt, prompt_mask, tokens, mask), tokens
    else:
        states, read = batched(packed_states)(prompt, prompt_mask, tokens, index)
    found = in_chunks(policy, params, states, read, statistic, rule=rule, chunk=chunk)
    if index is not None:
        apart = jax.vmap(partial(unpack, group=tokens.shape[1]))
        found = jax.tree.map(lambda x: apart(x, index), found)
    return jax.tree.map(lambda x: jnp.where(mask, x, 0.0), found)


def _chosen(law: Array, tokens: Array) -> Array:
    """Log-probability [n] of each token [n] under its law [n, V]."""
    # A sum rather than a gather, whose gradient would be a scatter into zeros of [n, V].
    chosen = jnp.arange(law.shape[-1])[None] == tokens[:, None]
    return jnp.sum(jnp.where(chosen, law, 0.0), axis=-1)


def in_chunks(
    policy: Policy,
    params: Params,
    states: Array,  # [..., M]
    tokens: Array,  # [...]
    statistic: Callable[[Array, Array], Any],
    *,
    rule: Rule,
    chunk: int = 1024,
) -> Any:
    """`statistic(log_law [n, V], tokens [n]) -> [n]` (or a tree of them) of every token, [...].

    The laws of about `chunk` tokens exist at a time, also in the backward pass; at least of one
    token of each row [T]. A chunk has tokens of every row, every m-th one: those of a few
    rows would all lie on one device of a mesh, and all others would wait for it.
    """
    length, width = tokens.shape[-1], states.shape[-1]
    parts = min(-(-tokens.size // chunk), length)
    padding = [(0, 0)] * (tokens.ndim - 1) + [(0, -length % parts)]

    def split(x: Array) -> Array:  # [..., T, *rest] to [parts, ..., T / parts, *rest]
        x = jnp.pad(x, [*padding, *[(0, 0)] * (x.ndim - tokens.ndim)])
        x = x.reshape(*tokens.shape[:-1], -1, parts, *x.shape[tokens.ndim :])
        return jnp.moveaxis(x, tokens.ndim, 0)

    @jax.checkpoint
    def of_chunk(inputs: tuple[Array, Array]) -> Any:
        states, tokens = inputs
        law = log_law(policy.logits(params, states.reshape(-1, width)), rule)
        found = statistic(law, tokens.reshape(-1))
        return jax.tree.map(lambda x: x.reshape(tokens.shape), found)

    def join(x: Array) -> Array:
        return jnp.moveaxis(x, 0, -1).reshape(*tokens.shape[:-1], -1)[..., :length]

    return jax.tree.map(join, jax.lax.map(of_chunk, (split(states), split(tokens))))


def read_prompt(
    policy: Policy, params: Params, tokens: Array, mask: Array
) -> tuple[Array, Segment, Array]:
    """Hidden state [M] of the last token, the segment and the length of one right-padded prompt."""
    positions = jnp.arange(tokens.shape[0])
    hidden, segment = policy.encode(params, tokens, positions, mask, ())
    length = jnp.sum(mask, dtype=jnp.int32)
    return hidden[length - 1], segment, length

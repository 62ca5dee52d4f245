"""Answer laws of trajectories in other words: what `surface` and `number` rewrites are read by."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.counterfactual.needed_rows import differs, filled, where_needed
from gccpo_jax.counterfactual.readout import read_scored
from gccpo_jax.policy.cache import extend, restrict
from gccpo_jax.policy.logprobs import read_prompt
from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.sampling.outcomes import step_texts
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.types import AnswerField, Array, Candidates, Params, Policy, Segment, record


def surface_variants(
    task: Task,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    tokens: np.ndarray,  # [B, G, T]
    starts: np.ndarray,  # [B, G, E] steps to rewrite one by one
    read_ends: np.ndarray,  # [B, G, E] where they are read (answer fields cut off)
    mask: np.ndarray,  # [B, G, E]
    *,
    arms: int,
    seed: Sequence[int],
    prompt_tokens: int,
) -> tuple[np.ndarray, np.ndarray, Variant, np.ndarray]:
    """Each trajectory in other words, re-tokenised, `arms` times (family: nuisance).

    The words of arm p are drawn from (seed, question id, p), so all trajectories of a
    question are rewritten alike.

    Returns:
      Prompts [B, P, S] and their masks, `Variant` arrays [B, G, P, T] with the read
      positions [B, G, P, E], and which variants exist, bool [B, G, P]: False where the
      task could not rewrite a trajectory or the result is too long.
    """
    batch, group, size = tokens.shape
    prompts = np.zeros((batch, arms, prompt_tokens), np.int32)
    prompt_mask = np.zeros((batch, arms, prompt_tokens), bool)
    prompt_mask[..., 0] = True  # an arm that does not exist is still read, then left out
    new_tokens = np.zeros((batch, group, arms, size), np.int32)
    new_mask = np.zeros((batch, group, arms, size), bool)
    ends = np.zeros((batch, group, arms, mask.shape[-1]), np.int32)
    exists = np.zeros((batch, group, arms), bool)
    encode = functools.cache(tokenizer.encode)  # a group says the same things again and again
    render = functools.cache(lambda text: tokenizer.render(text, task.system, task.chat))
    for b, g, p in np.ndindex(batch, group, arms):
        item, kept = items[b], mask[b, g]
        steps = step_texts(tokenizer, tokens[b, g], starts[b, g][kept], read_ends[b, g][kept])
        rng = np.random.default_rng([*seed, item.id, p])
        rewritten = task.surface(item, steps, rng) if task.surface else None
        if rewritten is None:
            continue
        question, lines = rewritten
        prompt = render(task.prompt(question))
        pieces = [encode(line) for line in lines]
        ids = [token for piece in pieces for token in piece]
        if len(prompt) > prompt_tokens or len(ids) > size:
            continue
        prompts[b, p, : len(prompt)] = prompt
        prompt_mask[b, p] = np.arange(prompt_tokens) < len(prompt)
        new_tokens[b, g, p, : len(ids)] = ids
        new_mask[b, g, p, : len(ids)] = True
        ends[b, g, p, : len(pieces)] = np.cumsum([len(piece) for piece in pieces])
        exists[b, g, p] = True
    return prompts, prompt_mask, Variant(new_tokens, new_mask, ends), exists


_PIECE = 8
"""Tokens of a text that are encoded together: texts end at different places."""


@record
class Variant:
    """One trajectory in other words, token by token, with the places to read it at."""

    tokens: Array  # [T] int32
    mask: Array  # [T] bool
    ends: Array  # [E] int32   prefix lengths at which the answer law is read


@partial(jax.jit, static_argnames=("policy",))
def variant_laws(
    policy: Policy,
    params: Params,
    prompt_tokens: Array,  # [B, P, S] the questions in other words
    prompt_mask: Array,  # [B, P, S] bool
    variants: Variant,  # [B, G, P, T]
    read: Array,  # [B, G, P, E] bool  places that exist
    field: AnswerField,
    candidates: Candidates,  # [B, C, A] the same as for the factual laws
) -> Array:
    """Answer laws [B, G, E, P, C + 1] of rewritten trajectories (`surface`, `number`).

    The trajectory is encoded once a variant and all its steps are read from that; a place
    that is the one before it is read once. Laws of places that do not exist are 0.
    """
    shape = read.shape
    texts = shape[:3]  # B, G, P
    size = max(1, shape[0] * shape[1] // 4)
    encode = partial(read_prompt, policy, params)
    of_arms = jax.vmap(encode, out_axes=(0, SEGMENT_AXES, 0))
    of_batch = jax.vmap(of_arms, out_axes=(0, SEGMENT_AXES, 0))
    _, prompt, length = of_batch(prompt_tokens, prompt_mask)

    def asked(q: Array, p: Array) -> Segment:
        return Segment(prompt.k[:, q, p], prompt.v[:, q, p], prompt.mask[q, p])

    def encode_rows(rows: Array) -> tuple[Array, Array]:
        """Keys and values [n, L, K, T, D] of variants, `_PIECE` tokens at a time."""
        q, g, p = jnp.unravel_index(rows, texts)
        tokens, mask = variants.tokens[q, g, p], variants.mask[q, g, p]
        missing = -mask.shape[-1] % _PIECE
        tokens, mask = (jnp.pad(x, ((0, 0), (0, missing))) for x in (tokens, mask))
        layers, _, _, heads, _, width = prompt.k.shape
        empty = jnp.zeros((layers, len(rows), heads, mask.shape[-1], width), prompt.k.dtype)

        def piece(n: Array, known: Segment) -> Segment:
            def one(q: Array, p: Array, tokens: Array, mask: Array, known: Segment) -> Segment:
                at = n * _PIECE + jnp.arange(_PIECE)
                context = (asked(q, p), restrict(known, jnp.int32(0), n * _PIECE))
                return policy.encode(params, tokens[at], length[q, p] + at, mask[at], context)[1]

            axes = (0, 0, 0, 0, SEGMENT_AXES)
            new = jax.vmap(one, axes, SEGMENT_AXES)(q, p, tokens, mask, known)
            return extend(known, new, n * _PIECE)

        longest = jnp.max(jnp.sum(mask, axis=-1))
        known = Segment(empty, empty, jnp.zeros_like(mask))
        known = jax.lax.fori_loop(0, -(-longest // _PIECE), piece, known)
        cut = lambda x: jnp.moveaxis(x[..., : variants.mask.shape[-1], :], 1, 0)  # noqa: E731
        return cut(known.k), cut(known.v)

    exists = read.any(-1).reshape(-1)
    sizes = jnp.sum(variants.mask, axis=-1).reshape(-1)
    keys, values = where_needed(encode_rows, exists, size, sizes)

    def read_rows(rows: Array) -> Array:
        def one(q: Array, g: Array, p: Array, e: Array) -> Array:
            n = jnp.ravel_multi_index((q, g, p), texts, mode="clip")
            end = variants.ends[q, g, p, e]
            own = Segment(keys[n], values[n], variants.mask[q, g, p])
            context = (asked(q, p), restrict(own, jnp.int32(0), end))
            chosen = jax.tree.map(lambda x: x[q], candidates)
            return read_scored(policy, params, context, length[q, p] + end, field, chosen)

        return jax.vmap(one)(*jnp.unravel_index(rows, shape))

    needed = read & differs(variants.ends)
    laws = where_needed(read_rows, needed.reshape(-1), size)
    laws = laws.reshape(*shape, -1)
    laws = jax.vmap(jax.vmap(jax.vmap(filled)))(laws, needed)
    return jnp.swapaxes(jnp.where(read[..., None], laws, 0.0), 2, 3)

"""The scored reader: the law of the answer if the policy had to answer now.

    p(a) = pi(a over | context, cue, a) exp( sum_j log pi(a_j | context, cue, a_<j) )
    other = 1 - sum_a p(a)

over a candidate set that was fixed before any intervention. That the answer is over
is part of the answer, else "1" would beat "12"; it is over with any token that cannot
go on with it (a model may end it with a newline, a full stop or the end of the text). A full
stop ends a number unless a digit follows, so the token after it is read too: what is counted
for two answers are different texts, and their probabilities add up to 1 at most.
Spellings of one answer ("1/2", "0.5") are read apart and counted together.
Deterministic; a cue is read once and shared by the candidates; the context is the
cache that sampling left.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from gccpo_jax.masked import masked_sum
from gccpo_jax.policy.cache import extend, restrict, room
from gccpo_jax.types import AnswerField, Array, Candidates, Context, Params, Policy, Segment

_PIECE = 2
"""Tokens of an answer that are read together: most are short, and the longest sets the width."""


def read_scored(
    policy: Policy,
    params: Params,
    context: Context,
    position: Array,  # [] absolute position of the cue's first token
    field: AnswerField,
    candidates: Candidates,
) -> Array:
    """Law [C + 1] in float32 over the candidates and, last, every other answer.

    The mean of the laws under each cue. Padding candidates and merged spellings have
    probability 0. `other` is clipped at 0, so that the law sums to 1 up to rounding.
    Read at temperature 1: what the policy believes, not how it is sampled.
    """
    laws = [
        _read_one(policy, params, context, position, cue, field, candidates) for cue in field.cues
    ]
    return functools.reduce(jnp.add, laws) / len(laws)


def _read_one(
    policy: Policy,
    params: Params,
    context: Context,
    position: Array,
    cue: Array,
    field: AnswerField,
    candidates: Candidates,
) -> Array:
    ends, pause = field.ends, field.pause
    positions = position + jnp.arange(cue.shape[0])
    hidden, cue_segment = policy.encode(
        params, cue, positions, jnp.ones(cue.shape[0], bool), context
    )
    answer_position = position + cue.shape[0]
    first = policy.logits(params, hidden[-1]).astype(jnp.float32)  # the same for all candidates
    norm, over = jax.nn.logsumexp(first), jax.nn.logsumexp(first, where=ends)

    def score(tokens: Array, mask: Array) -> Array:
        length = read = jnp.sum(mask, dtype=jnp.int32)
        if pause is not None:  # it is read behind the answer
            tokens = jnp.pad(tokens, (0, 1)).at[length].set(pause)
            read, mask = length + 1, jnp.arange(tokens.shape[0]) <= length
        missing = -tokens.shape[0] % _PIECE
        tokens, mask = jnp.pad(tokens, (0, missing + 1)), jnp.pad(mask, (0, missing))

        def piece(at: Array, *known: Segment) -> tuple[Array, Array, Segment]:
            inside = tokens[at], answer_position + at, mask[at]
            hidden, new = policy.encode(params, *inside, (*context, cue_segment, *known))
            logits = policy.logits(params, hidden).astype(jnp.float32)  # [_PIECE, V]
            norms = jax.nn.logsumexp(logits, axis=-1)
            following = jnp.take_along_axis(logits, tokens[at + 1][:, None], axis=1)[:, 0]
            log_prob = masked_sum(following - norms, at + 1 < length)
            last = jnp.clip(length - 1 - at[0], 0, _PIECE - 1)
            ended = jax.nn.logsumexp(logits[last], where=ends)
            log_prob = log_prob + jnp.where(at[last] == length - 1, ended - norms[last], 0.0)
            if pause is None:
                return log_prob, jnp.zeros(()), new
            behind = jnp.clip(length - at[0], 0, _PIECE - 1)
            after = jax.nn.logsumexp(logits[behind], where=field.ends_after) - norms[behind]
            paused = jnp.where(at[last] == length - 1, logits[last, pause] - ended, 0.0)
            return log_prob, paused + jnp.where(at[behind] == length, after, 0.0), new

        def go_on(n: Array, state: tuple[Array, Array, Segment]) -> tuple[Array, Array, Segment]:
            log_prob, paused, known = state
            at = n * _PIECE + jnp.arange(_PIECE)
            more, more_paused, new = piece(at, restrict(known, jnp.int32(0), at[0]))
            return log_prob + more, paused + more_paused, extend(known, new, at[0])

        begun, paused, new = piece(jnp.arange(_PIECE))
        log_prob = begun + jnp.where(length > 0, first[tokens[0]], over) - norm
        if mask.shape[0] > _PIECE:
            state = log_prob, paused, extend(room(new, mask.shape[0]), new, jnp.int32(0))
            log_prob, paused, _ = jax.lax.fori_loop(1, -(-read // _PIECE), go_on, state)
        # `paused`: log of how much likelier it is over by the pause than at once.
        return log_prob if pause is None else log_prob + jax.nn.softplus(paused)

    log_prob = jax.vmap(score)(candidates.tokens, candidates.mask)
    prob = jnp.where(candidates.exists, jnp.exp(log_prob), 0.0)
    merged = jnp.zeros_like(prob).at[candidates.counted_as].add(prob)
    other = jnp.maximum(1.0 - jnp.sum(prob), 0.0)
    return jnp.append(merged, other)

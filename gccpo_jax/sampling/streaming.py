"""One response, token by token: what `rollouts.sample` writes at once, handed out as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.policy.cache import decoder_of, split
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.questions import round_up, token_rows
from gccpo_jax.sampling.rollouts import Row, begin, open_row, write_token
from gccpo_jax.types import Array, Params, Policy, Prompts, Segment


def stream(
    policy: Policy,
    params: Params,
    prompt: Sequence[int],
    stop: Array,  # [V] bool
    *,
    rule: Rule,
    key: Array,
    max_tokens: int,
) -> Iterator[int]:
    """Token ids of a response, the one that ends it too, each as soon as it is drawn.

    They are those of `rollouts.sample` for the same question key.

    Args:
      prompt: token ids, at least one. stop: tokens that end a response.
      rule: the law that is drawn from. key: of the question. max_tokens: T.
    """
    width = round_up(len(prompt))
    tokens, mask = token_rows([prompt], width)
    prompts = Prompts(tokens=tokens, mask=mask, ids=np.zeros(1, np.uint32))
    weights, past, row, length, tape = _opened(policy, params, prompts, key[None], max_tokens)
    for t in range(max_tokens):
        row = _next(policy, weights, rule, stop, jnp.int32(t), past, length, tape, row)
        yield int(row.rollout.tokens[t])
        if bool(row.rollout.stopped):
            return


@partial(jax.jit, static_argnames=("policy", "max_tokens"))
def _opened(
    policy: Policy, params: Params, prompts: Prompts, keys: Array, max_tokens: int
) -> tuple[Params, Segment, Row, Array, Tape]:
    """Unrolled weights, the prompt's segment, an empty row, the prompt's length, the tape."""
    segment, hidden, length, tapes = begin(policy, params, prompts, keys, 1, 0)
    segment = Segment(segment.k[:, 0], segment.v[:, 0], segment.mask[0])
    nothing = Segment(segment.k[:, :, :0], segment.v[:, :, :0], segment.mask[:0])
    row = open_row(nothing, hidden[0], max_tokens)
    rollout = row.rollout
    rollout = type(rollout)(**{**vars(rollout), "segment": split(rollout.segment)})
    tape = jax.tree.map(lambda x: x[0, 0], tapes)
    weights = decoder_of(policy).unroll(params)
    return weights, split(segment), Row(row.hidden, rollout), length[0], tape


@partial(jax.jit, static_argnames=("policy", "rule"), donate_argnames="row")
def _next(
    policy: Policy,
    weights: Params,
    rule: Rule,
    stop: Array,
    t: Array,
    past: Segment,
    start: Array,
    tape: Tape,
    row: Row,
) -> Row:
    return write_token(policy, weights, rule, stop, t, (past,), start, tape, jnp.int32(0), row)

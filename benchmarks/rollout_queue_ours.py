"""Contestant: rollouts of very different lengths, in fixed batches or from a queue.

    python benchmarks/rollout_queue_ours.py SHAPE fixed|queue QUESTIONS GROUP SLOTS PROMPT RESPONSE

`fixed` samples SLOTS rollouts at a time and waits for the longest of them; `queue` gives the
slot of whoever ends to the next. Lengths are uniform on [RESPONSE / 8, RESPONSE]: a policy
that counts its tokens stops with the hazard of that law. Both write the same tokens.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from entrant import serve
from shapes import SHAPES

from gccpo_jax import model, noise
from gccpo_jax.law import Rule
from gccpo_jax.rollout_queue import sampler
from gccpo_jax.types import Array, Context, Params, Policy, Prompts, Segment

STOP = 0


def of_uniform_length(policy: Policy, first: int, last: int) -> Policy:
    """The policy, ending after a number of tokens that is uniform on [first, last].

    The position of a token is one more number of its hidden state. A rollout that has j tokens
    ends with the next one with probability 1 / (last - j), from the `first`-th token on.
    """

    def encode(
        params: Params, tokens: Array, positions: Array, mask: Array, past: Context
    ) -> tuple[Array, Segment]:
        hidden, segment = policy.encode(params, tokens, positions, mask, past)
        return jnp.concatenate([hidden, positions[:, None].astype(hidden.dtype)], -1), segment

    def logits(params: Params, hidden: Array) -> Array:
        plain = policy.logits(params, hidden[..., :-1])
        written = hidden[..., -1:] + 1 - PROMPT
        left = jnp.maximum(last - written, 1)
        odds = jnp.where(written < first - 1, -1e9, -jnp.log(jnp.maximum(left - 1, 1e-6)))
        others = jax.nn.logsumexp(plain, axis=-1, keepdims=True)
        return jnp.where(jnp.arange(policy.vocab_size) == STOP, others + odds, plain)

    return Policy(encode, logits, policy.vocab_size)


shape, kind, *sizes = sys.argv[1:]
questions, group, slots, PROMPT, response = map(int, sizes)
arch = SHAPES[shape]
policy = of_uniform_length(model.make_policy(arch), response // 8, response)
params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
random = np.random.default_rng(0).integers(1, arch.vocab_size, (questions, PROMPT))
at_once = questions if kind == "queue" else slots // group
stop = jnp.arange(arch.vocab_size) == STOP
sample = sampler(slots if kind == "queue" else 0)


def work() -> None:
    lengths = []
    for part in range(0, questions, at_once):
        tokens = jnp.asarray(random[part : part + at_once], jnp.int32)
        ids = jnp.arange(part, part + at_once, dtype=jnp.uint32)
        prompts = Prompts(tokens, jnp.ones(tokens.shape, bool), ids)
        keys = noise.question_keys(jax.random.key(1), 0, ids)
        _, rollout = sample(
            policy, params, prompts, keys, stop, group=group, rule=Rule(1.0), max_tokens=response
        )
        lengths.append(np.asarray(rollout.length))
    lengths = np.concatenate(lengths)
    assert response // 8 <= lengths.min() and 0.4 < lengths.mean() / response < 0.7
    print(f"mean length {lengths.mean():.1f}, of {lengths.min()} to {lengths.max()}", flush=True)


serve(work)

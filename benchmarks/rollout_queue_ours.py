"""Contestant: rollouts of very different lengths, in fixed batches or from a queue.

    python benchmarks/rollout_queue_ours.py SHAPE fixed|queue QUESTIONS GROUP SLOTS PROMPT RESPONSE

`fixed` samples SLOTS rollouts at a time and waits for the longest of them; `queue` gives the
slot of whoever ends to the next. A rollout may end from its (RESPONSE / 8)-th token on, with
the same probability at each, and ends with the RESPONSE-th: lengths spread 1:8, most of them
short. Both write the same tokens.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from ending import spread
from entrant import serve
from shapes import SHAPES

from gccpo_jax.policy import model
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.ring_queue import sampler
from gccpo_jax.types import Prompts

STOP = 0

shape, kind, *sizes = sys.argv[1:]
questions, group, slots, prompt, response = map(int, sizes)
arch = SHAPES[shape]
policy = spread(model.make_policy(arch), stop=STOP, prompt=prompt, response=response)
params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
random = np.random.default_rng(0).integers(1, arch.vocab_size, (questions, prompt))
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
    assert response // 8 <= lengths.min() and lengths.max() <= response
    print(f"mean length {lengths.mean():.1f}, of {lengths.min()} to {lengths.max()}", flush=True)


serve(work)

"""Contestant: `rollouts.sample`, a group of rollouts for each of a few questions.

    python benchmarks/rollout_ours.py SHAPE QUESTIONS GROUP PROMPT RESPONSE [SLOTS LENGTHS]

Without LENGTHS every response has its full length. With it lengths spread 1:8, SLOTS rollouts are
decoded at a time (0: all of them), and what they turned out to be is written to that file.
"""

from __future__ import annotations

import json
import pathlib
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

shape, *sizes = sys.argv[1:6]
questions, group, prompt, response = map(int, sizes)
slots, lengths = (int(sys.argv[6]), pathlib.Path(sys.argv[7])) if sys.argv[6:] else (0, None)
arch = SHAPES[shape]
policy = model.make_policy(arch)
if lengths:
    policy = spread(policy, stop=STOP, prompt=prompt, response=response)
params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
tokens = np.random.default_rng(0).integers(1, arch.vocab_size, (questions, prompt))
prompts = Prompts(
    jnp.asarray(tokens, jnp.int32),
    jnp.ones(tokens.shape, bool),
    jnp.arange(questions, dtype=jnp.uint32),
)
keys = noise.question_keys(jax.random.key(1), 0, prompts.ids)
stop = (jnp.arange(arch.vocab_size) == STOP) & bool(lengths)
sample = sampler(slots)


def work() -> None:
    _, rollout = sample(
        policy, params, prompts, keys, stop, group=group, rule=Rule(1.0), max_tokens=response
    )
    if lengths:
        lengths.write_text(json.dumps(rollout.length.reshape(-1).tolist()))
    else:
        assert int(rollout.length.sum()) == questions * group * response


serve(work)

"""Contestant: `rollouts.sample`, a group of rollouts for each of a few questions.

python benchmarks/rollout_ours.py SHAPE QUESTIONS GROUP PROMPT RESPONSE
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from entrant import serve
from shapes import SHAPES

from gccpo_jax.policy import model
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.types import Prompts

shape, *sizes = sys.argv[1:]
questions, group, prompt, response = map(int, sizes)
arch = SHAPES[shape]
policy = model.make_policy(arch)
params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
tokens = np.random.default_rng(0).integers(1, arch.vocab_size, (questions, prompt))
prompts = Prompts(
    jnp.asarray(tokens, jnp.int32),
    jnp.ones(tokens.shape, bool),
    jnp.arange(questions, dtype=jnp.uint32),
)
keys = noise.question_keys(jax.random.key(1), 0, prompts.ids)
never = jnp.zeros(arch.vocab_size, bool)


def work() -> None:
    _, rollout = sample(
        policy, params, prompts, keys, never, group=group, rule=Rule(1.0), max_tokens=response
    )
    assert int(rollout.length.sum()) == questions * group * response


serve(work)

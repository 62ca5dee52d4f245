"""Contestant: one optimizer update of the clipped objective, ours.

python benchmarks/update_ours.py SHAPE QUESTIONS GROUP PROMPT RESPONSE MICRO_BATCH
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from entrant import serve
from shapes import SHAPES

from gccpo_jax import model
from gccpo_jax.law import Rule
from gccpo_jax.types import UpdateBatch
from gccpo_jax.update import TrainState, make_optimizer, make_update, rl_loss

shape, *sizes = sys.argv[1:]
questions, group, prompt, response, micro_batch = map(int, sizes)
arch = SHAPES[shape]
params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
optimizer = make_optimizer(lr=1e-6, steps=1000)
state = TrainState(params, jax.jit(optimizer.init)(params), jnp.int32(0))
del params
random = np.random.default_rng(0)
rows = (questions, group, response)
zeros = jnp.zeros(rows, jnp.float32)
batch = UpdateBatch(
    prompt=jnp.asarray(random.integers(1, arch.vocab_size, (questions, prompt)), jnp.int32),
    prompt_mask=jnp.ones((questions, prompt), bool),
    tokens=jnp.asarray(random.integers(1, arch.vocab_size, rows), jnp.int32),
    mask=jnp.ones(rows, bool),
    behaviour_logp=zeros - 11.0,
    reference_logp=zeros,
    advantage=jnp.asarray(random.normal(size=(questions, group, 1)), jnp.float32) + zeros,
)
loss = rl_loss(model.make_policy(arch), rule=Rule(1.0))
update = make_update(loss, optimizer, micro_batch=micro_batch)


def work() -> None:
    global state
    state, metrics = update(state, batch)
    assert np.isfinite(float(metrics["loss"]))


serve(work)

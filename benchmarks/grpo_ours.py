"""Contestant: one GRPO update of given rollouts, or a whole step, ours.

python benchmarks/grpo_ours.py update|step SHAPE QUESTIONS GROUP PROMPT RESPONSE MICRO_BATCH
    [spread]
"""

from __future__ import annotations

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from entrant import lengths, serve
from shapes import SHAPES

from gccpo_jax.advantage.baselines import group_zscore
from gccpo_jax.objective.update import make_optimizer, make_update, rl_loss
from gccpo_jax.policy import model
from gccpo_jax.policy.packing import laid
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.types import Array, Prompts, TrainState, UpdateBatch

what, shape, *sizes = sys.argv[1:8]
questions, group, prompt, response, micro_batch = map(int, sizes)
arch, rule = SHAPES[shape], Rule(1.0)
policy = model.make_policy(arch)
params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
optimizer = make_optimizer(lr=1e-6, steps=1000)
state = TrainState(params, jax.jit(optimizer.init)(params), jnp.int32(0))
del params
update = make_update(rl_loss(policy, rule=rule), optimizer, micro_batch=micro_batch)
random = np.random.default_rng(0)
rows = (questions, group, response)
asked = random.integers(1, arch.vocab_size, (questions, prompt))
prompts = Prompts(
    jnp.asarray(asked, jnp.int32),
    jnp.ones(asked.shape, bool),
    jnp.arange(questions, dtype="uint32"),
)
never = jnp.zeros(arch.vocab_size, bool)
ends = np.full(rows[:2], response)
if sys.argv[8:] == ["spread"]:
    ends = np.reshape(lengths(questions * group, response), rows[:2])


def batch(tokens: Array, logp: Array, advantage: np.ndarray | Array) -> UpdateBatch:
    """Rollouts as long as `ends` says."""
    return UpdateBatch(
        prompt=prompts.tokens,
        prompt_mask=prompts.mask,
        tokens=tokens,
        mask=jnp.asarray(np.arange(response) < ends[..., None]),
        behaviour_logp=logp,
        reference_logp=jnp.zeros(rows, jnp.float32),
        advantage=jnp.broadcast_to(jnp.asarray(advantage, jnp.float32)[..., None], rows),
        index=laid(ends, response),
    )


given = batch(
    jnp.asarray(random.integers(1, arch.vocab_size, rows), jnp.int32),
    jnp.full(rows, -11.0),
    random.normal(size=(questions, group)),
)


def rollouts() -> UpdateBatch:
    """Samples, rewards on the host by the first token, and normalises by group."""
    keys = noise.question_keys(jax.random.key(1), int(state.step), prompts.ids)
    _, found = sample(
        policy, state.params, prompts, keys, never, group=group, rule=rule, max_tokens=response
    )
    reward = jnp.asarray(np.asarray(found.tokens)[..., 0] % 2, jnp.float32)
    zscore = partial(group_zscore, ddof=1, epsilon=1e-4)
    advantage = jax.vmap(zscore)(reward, jnp.ones(reward.shape, bool))
    return batch(found.tokens, found.logp, advantage)


def work() -> None:
    global state
    state, metrics = update(state, given if what == "update" else rollouts())
    assert np.isfinite(float(metrics["loss"]))


serve(work)

"""A batch of toy rollouts and losses of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.masked import length_mask
from gccpo_jax.objective.update import rl_loss
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.types import UpdateBatch
from tests.helpers import toy

RULES = [Rule(), Rule(temperature=0.7), Rule(top_k=3), Rule(temperature=1.3, top_p=0.8)]
RULE = RULES[3]  # of every test that does not go through all


ROWS = [0, 1, 2, 3]


@functools.cache
def sampled(rule):
    """A batch of toy rollouts sampled with a rule."""
    prompts = toy.prompts(ROWS)
    keys = noise.question_keys(jax.random.key(3), 0, prompts.ids)
    _, rollout = sample(
        toy.POLICY, toy.PARAMS, prompts, keys, toy.IS_STOP, group=3, rule=rule, max_tokens=8
    )
    mask = length_mask(rollout.length, 8)
    random = np.random.default_rng(0)
    return UpdateBatch(
        prompt=jnp.asarray(prompts.tokens),
        prompt_mask=jnp.asarray(prompts.mask),
        tokens=rollout.tokens,
        mask=mask,
        behaviour_logp=rollout.logp,
        reference_logp=jnp.asarray(rollout.logp + random.normal(0, 0.1, mask.shape), jnp.float32),
        advantage=jnp.asarray(random.normal(0, 1, mask.shape), jnp.float32),
        reward=jnp.asarray(random.normal(0, 1, mask.shape[:2]), jnp.float32),
    )


def loss_fn(**options):
    return rl_loss(toy.POLICY, rule=RULE, max_tokens=8, **options)

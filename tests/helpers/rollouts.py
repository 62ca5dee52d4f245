"""Rollouts of the toy policy, and the noise they are drawn with."""

import jax
import numpy as np

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from tests.helpers import toy


def gumbels_of(words):
    """-log(-log(1 - w)) of w = (word + 1/2) / 2^32 in float64."""
    w = (np.asarray(words, np.float64) + 0.5) / 2**32
    return -np.log(-np.log1p(-w))


ROWS, G, T = [0, 1, 2, 3], 3, 8


ROOT = jax.random.key(2)


PLAIN, MASKED, GREEDY = Rule(), Rule(0.8, top_k=4, top_p=0.85), Rule(temperature=0.0)


def draw(rows=ROWS, width=4, group=G, rule=PLAIN, max_tokens=T, draw=0):
    prompts = toy.prompts(rows, width)
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    return sample(
        toy.POLICY,
        toy.PARAMS,
        prompts,
        keys,
        toy.IS_STOP,
        group=group,
        rule=rule,
        max_tokens=max_tokens,
        draw=draw,
    )

"""A queue of rollouts is the fixed batch, whatever the number of slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollout_queue import sample_queue
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.types import Prompts
from tests.helpers import toy
from tests.helpers.rollouts import MASKED, PLAIN, ROOT, ROWS, G, T

ARGUMENTS = {"group": G, "max_tokens": T, "rule": PLAIN}


def both(policy, params, prompts, stop, slots, **arguments):
    arguments = ARGUMENTS | arguments
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    inputs = (policy, params, prompts, keys, stop)
    return sample(*inputs, **arguments), sample_queue(*inputs, slots=slots, **arguments)


def written(rollout, part):
    """Keys or values [L, B, G, K, T, D], 0 where no token is."""
    inside = np.asarray(rollout.segment.mask)[None, :, :, None, :, None]
    return np.where(inside, getattr(rollout.segment, part), 0)


@pytest.mark.parametrize("slots, rule, draw", [(1, PLAIN, 0), (5, MASKED, 2), (12, PLAIN, 0)])
def test_the_queue_is_the_batch_bit_by_bit(slots, rule, draw):
    """The toy policy adds exactly in any order, so nothing may differ at all."""
    (prompt, want), (same, got) = both(
        toy.POLICY, toy.PARAMS, toy.prompts(ROWS, 4), toy.IS_STOP, slots, rule=rule, draw=draw
    )
    assert len(set(np.asarray(want.length).ravel().tolist())) > 2
    assert 0 < np.mean(want.stopped) < 1
    jax.tree.map(np.testing.assert_array_equal, prompt, same)
    for name in ("tokens", "logp", "entropy", "length", "stopped"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), name)
    np.testing.assert_array_equal(got.segment.mask, want.segment.mask)
    for part in ("k", "v"):
        np.testing.assert_array_equal(written(got, part), written(want, part))


def test_a_decoder_gives_the_same_rollouts():
    arch = Arch(40, 16, 2, 2, 1, 8, 32)
    params = model.init(arch, jax.random.key(3))
    tokens = np.random.default_rng(0).integers(1, 40, (3, 5))
    mask = np.arange(5) < np.array([[5], [3], [4]])
    prompts = Prompts(
        jnp.asarray(tokens, jnp.int32), jnp.asarray(mask), jnp.arange(3).astype("uint32")
    )
    stop = jnp.arange(40) < 4
    (_, want), (_, got) = both(
        model.make_policy(arch), params, prompts, stop, 4, max_tokens=20, rule=Rule(1.0)
    )
    np.testing.assert_array_equal(got.tokens, want.tokens)
    np.testing.assert_array_equal(got.length, want.length)
    np.testing.assert_allclose(got.logp, want.logp, atol=1e-5)
    np.testing.assert_allclose(written(got, "k"), written(want, "k"), atol=1e-5)

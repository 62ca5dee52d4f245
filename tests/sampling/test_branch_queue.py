"""A queue of branches is the fixed batch, whatever the number of slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branch_queue import queue_branches
from gccpo_jax.sampling.branches import at_sites, continue_branches, fresh_tapes
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.sites import Sites, boundary
from gccpo_jax.types import Prompts
from tests.helpers import toy
from tests.helpers.rollouts import MASKED, PLAIN, ROOT, G, T

DRAWS, WIDTH = 2, 3


def at_boundaries(prompts, rollout):
    """Sites [B, G, 4]: nothing kept, inside, at the end, and one that does not exist."""
    length = np.asarray(rollout.length)
    ends = np.stack([0 * length, (length + 1) // 2, length, length // 3], -1)
    exists = np.broadcast_to([True, True, True, False], ends.shape)
    of_sites = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    of_group = jax.vmap(of_sites, in_axes=(None, None, 0, 0, 0))
    lengths = prompts.mask.sum(-1)
    return jax.vmap(of_group)(
        prompts.tokens, lengths, rollout.tokens, jnp.asarray(ends), jnp.asarray(exists)
    )


def replaced(prompts, rollout):
    """Other steps [B, G, 2] of up to `WIDTH` tokens behind what is kept."""
    shape = (*rollout.length.shape, 2)
    random = np.random.default_rng(1)
    keep = np.minimum(random.integers(0, 4, shape), np.asarray(rollout.length)[..., None])
    length = random.integers(1, WIDTH + 1, shape)
    tokens = random.integers(1, toy.V, (*shape, WIDTH))
    exists = random.random(shape) < 0.8
    return Sites(*(jnp.asarray(x) for x in (keep, tokens, length, keep + 2, exists)))


def both(policy, params, prompts, stop, slots, sites_of, rule, size, limit, max_tokens):
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    prompt, rollout = sample(
        policy, params, prompts, keys, stop, group=G, rule=rule, max_tokens=size
    )
    sites = sites_of(prompts, rollout)
    tapes = at_sites(
        noise.keyed(fresh_tapes(keys, G, DRAWS), policy.vocab_size), sites.keep.shape[2]
    )
    given = (policy, params, prompt, rollout.segment, sites)
    options = dict(rule=rule, max_tokens=max_tokens, limit=limit)
    want = continue_branches(*given, tapes, stop, **options)
    return want, queue_branches(*given, tapes.key, stop, **options, slots=slots)


@pytest.mark.parametrize("sites_of", [at_boundaries, replaced])
@pytest.mark.parametrize(
    "slots, rule, limit, max_tokens",
    [(1, PLAIN, T, T), (5, MASKED, T, T), (64, PLAIN, T, T), (6, PLAIN, 5, T), (6, PLAIN, 99, 4)],
)
def test_the_queue_is_the_batch_bit_by_bit(slots, rule, limit, max_tokens, sites_of):
    """The toy policy adds exactly in any order, so nothing may differ at all."""
    want, got = both(
        toy.POLICY, toy.PARAMS, toy.prompts([0, 1, 2], 4), toy.IS_STOP, slots, sites_of, rule, T,
        limit, max_tokens,
    )  # fmt: skip
    lengths = np.asarray(want.length)
    assert len(set(lengths.ravel().tolist())) > 2 and (lengths == 0).any()
    np.testing.assert_array_equal(got.length, lengths)
    inside = np.arange(max_tokens) < lengths[..., None]
    np.testing.assert_array_equal(np.asarray(got.tokens), np.where(inside, want.tokens, 0))


def test_a_decoder_gives_the_same_branches():
    arch = Arch(40, 16, 2, 2, 1, 8, 32)
    params = model.init(arch, jax.random.key(3))
    tokens = np.random.default_rng(0).integers(1, 40, (3, 5))
    mask = np.arange(5) < np.array([[5], [3], [4]])
    prompts = Prompts(
        jnp.asarray(tokens, jnp.int32), jnp.asarray(mask), jnp.arange(3).astype("uint32")
    )
    want, got = both(
        model.make_policy(arch), params, prompts, jnp.arange(40) < 4, 7, at_boundaries, Rule(1.0),
        20, 20, 20,
    )  # fmt: skip
    np.testing.assert_array_equal(got.length, want.length)
    np.testing.assert_array_equal(got.tokens, want.tokens)

"""A queue of rollouts or branches is the fixed batch, whatever the number of slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import at_sites, continue_branches, fresh_tapes
from gccpo_jax.sampling.ring_queue import queue_branches, sample_queue
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.sites import Sites, boundary
from gccpo_jax.types import Prompts
from tests.helpers import toy
from tests.helpers.rollouts import MASKED, PLAIN, ROOT, ROWS, G, T

DRAWS, WIDTH = 2, 3
TOY = (toy.POLICY, toy.PARAMS)


@pytest.fixture(scope="module")
def decoder():
    """A small decoder: the policy, its parameters, prompts and tokens that stop it."""
    arch = Arch(40, 16, 2, 2, 1, 8, 32)
    tokens = np.random.default_rng(0).integers(1, 40, (3, 5))
    mask = np.arange(5) < np.array([[5], [3], [4]])
    ids = jnp.arange(3).astype("uint32")
    prompts = Prompts(jnp.asarray(tokens, jnp.int32), jnp.asarray(mask), ids)
    return model.make_policy(arch), model.init(arch, jax.random.key(3)), prompts, jnp.arange(40) < 4


def both_rollouts(policy, params, prompts, stop, *, slots, **options):
    """Prompts and rollouts of the fixed batch, and those of the queue."""
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    inputs = (policy, params, prompts, keys, stop)
    return sample(*inputs, group=G, **options), sample_queue(
        *inputs, group=G, slots=slots, **options
    )


def both_branches(policy, params, prompts, stop, sites_of, *, slots, size=T, **options):
    """Branches of the fixed batch, and those of the queue, from sites in rollouts of `size`."""
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    rule = options["rule"]
    prompt, rollout = sample(
        policy, params, prompts, keys, stop, group=G, rule=rule, max_tokens=size
    )
    sites = sites_of(prompts, rollout)
    tapes = noise.keyed(fresh_tapes(keys, G, DRAWS), policy.vocab_size)
    tapes = at_sites(tapes, sites.keep.shape[2])
    given = (policy, params, prompt, rollout.segment, sites)
    want = continue_branches(*given, tapes, stop, **options)
    return want, queue_branches(*given, tapes.key, stop, **options, slots=slots)


def written(rollout, part):
    """Keys or values [L, B, G, K, T, D], 0 where no token is."""
    inside = np.asarray(rollout.segment.mask)[None, :, :, None, :, None]
    return np.where(inside, getattr(rollout.segment, part), 0)


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


@pytest.mark.parametrize("slots, rule, draw", [(1, PLAIN, 0), (5, MASKED, 2), (12, PLAIN, 0)])
def test_a_queue_of_rollouts_is_the_batch_bit_by_bit(slots, rule, draw):
    """The toy policy adds exactly in any order, so nothing may differ at all."""
    options = {"slots": slots, "rule": rule, "draw": draw, "max_tokens": T}
    (prompt, want), (same, got) = both_rollouts(*TOY, toy.prompts(ROWS, 4), toy.IS_STOP, **options)
    assert len(set(np.asarray(want.length).ravel().tolist())) > 2
    assert 0 < np.mean(want.stopped) < 1
    jax.tree.map(np.testing.assert_array_equal, prompt, same)
    for name in ("tokens", "logp", "entropy", "length", "stopped"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), name)
    np.testing.assert_array_equal(got.segment.mask, want.segment.mask)
    for part in ("k", "v"):
        np.testing.assert_array_equal(written(got, part), written(want, part))


def test_a_decoder_gives_the_same_rollouts(decoder):
    (_, want), (_, got) = both_rollouts(*decoder, slots=4, max_tokens=20, rule=Rule(1.0))
    np.testing.assert_array_equal(got.tokens, want.tokens)
    np.testing.assert_array_equal(got.length, want.length)
    np.testing.assert_allclose(got.logp, want.logp, atol=1e-5)
    np.testing.assert_allclose(written(got, "k"), written(want, "k"), atol=1e-5)


@pytest.mark.parametrize("sites_of", [at_boundaries, replaced])
@pytest.mark.parametrize(
    "slots, rule, limit, max_tokens",
    [(1, PLAIN, T, T), (5, MASKED, T, T), (64, PLAIN, T, T), (6, PLAIN, 5, T), (6, PLAIN, 99, 4)],
)
def test_a_queue_of_branches_is_the_batch_bit_by_bit(slots, rule, limit, max_tokens, sites_of):
    """The toy policy adds exactly in any order, so nothing may differ at all."""
    options = {"slots": slots, "rule": rule, "limit": limit, "max_tokens": max_tokens}
    prompts = toy.prompts([0, 1, 2], 4)
    want, got = both_branches(*TOY, prompts, toy.IS_STOP, sites_of, **options)
    lengths = np.asarray(want.length)
    assert len(set(lengths.ravel().tolist())) > 2 and (lengths == 0).any()
    np.testing.assert_array_equal(got.length, lengths)
    inside = np.arange(max_tokens) < lengths[..., None]
    np.testing.assert_array_equal(np.asarray(got.tokens), np.where(inside, want.tokens, 0))


def test_a_decoder_gives_the_same_branches(decoder):
    options = {"size": 20, "max_tokens": 20, "limit": 20, "rule": Rule(1.0)}
    want, got = both_branches(*decoder, at_boundaries, slots=7, **options)
    np.testing.assert_array_equal(got.length, want.length)
    np.testing.assert_array_equal(got.tokens, want.tokens)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.counterfactual.cache_edits import latent, latent_noise_at
from gccpo_jax.errors import UserError
from gccpo_jax.policy.cache import restrict
from gccpo_jax.types import Segment

L, T, K, D = 3, 6, 2, 4
SIZE = 400
KEY = jax.random.key(4)
SPAN = jnp.array([False, False, True, True, False, True])


@jax.jit
def edit(segment, span, sigma, key):
    layers, heads, size, width = segment.k.shape
    at = lambda t: latent_noise_at(key, t, (2, layers, heads, width))  # noqa: E731
    return latent(segment, span, sigma, jax.vmap(at, out_axes=3)(jnp.arange(size)))


def segment(seed=0, size=T, scale=1.0, exists=T - 1) -> Segment:
    """The last token does not exist, though the span covers it."""
    random = np.random.default_rng(seed)
    k, v = (jnp.asarray(random.normal(0, 2, (L, K, size, D)), jnp.float32) for _ in "kv")
    return Segment(scale * k, scale * v, jnp.arange(size) < exists)


def change(before: Segment, after: Segment) -> np.ndarray:
    return np.stack([after.k - before.k, after.v - before.v])  # [2, L, K, T, D]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_placebo_changes_no_bit(dtype):
    before = segment()
    before = Segment(before.k.astype(dtype), before.v.astype(dtype), before.mask)
    after = edit(before, SPAN, 0.0, KEY)
    assert after.k.dtype == after.v.dtype == dtype
    np.testing.assert_array_equal(after.k, before.k)
    np.testing.assert_array_equal(after.v, before.v)


def test_only_the_existing_tokens_of_the_step_below_the_last_layer_move():
    before = segment()
    after = edit(before, SPAN, 0.5, KEY)
    where = np.asarray(SPAN & before.mask)
    moved = change(before, after) != 0
    assert moved[:, :-1][..., where, :].all(), "every number of the step, in keys and values"
    assert not moved[:, -1].any(), "the last layer stays"
    assert not moved[..., ~where, :].any(), "other tokens stay"
    np.testing.assert_array_equal(after.mask, where)


@pytest.mark.parametrize("sigma", [0.25, 2.0])
def test_the_scale_is_sigma_times_the_rms_of_the_step(sigma):
    size = SIZE
    random = np.random.default_rng(1)
    scale = (
        np.array([0.5, 4.0, 1.0])[:, None, None, None]
        * np.where(np.arange(size) < 200, 1, 9)[None, None, :, None]
    )
    k, v = (jnp.asarray(scale * random.normal(size=(L, K, size, D)), jnp.float32) for _ in "kv")
    before = Segment(k, 10 * v, jnp.ones(size, bool))
    span = jnp.arange(size) < 200
    moved = change(before, edit(before, span, sigma, KEY))[:, :2, :, :200]
    got = moved.std(axis=(2, 3, 4)) / sigma
    np.testing.assert_allclose(got, [[0.5, 4.0], [5.0, 40.0]], rtol=0.08)
    assert abs(np.corrcoef(moved[0, 0].ravel(), moved[1, 0].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(moved[0, 0].ravel(), moved[0, 1].ravel())[0, 1]) < 0.1


def test_every_channel_has_a_scale_of_its_own():
    """A key channel of constant 50 gets noise of its size, all others what they had without."""
    random = np.random.default_rng(2)
    k, v = (jnp.asarray(random.normal(size=(L, K, SIZE, D)), jnp.float32) for _ in "kv")
    exists, span = jnp.ones(SIZE, bool), jnp.ones(SIZE, bool)
    plain = Segment(k, v, exists)
    spiked = Segment(k.at[:, 1, :, 2].set(50.0), v, exists)
    alone, beside = (change(x, edit(x, span, 0.5, KEY))[:, :-1] for x in (plain, spiked))
    assert beside[0, :, 1, :, 2].std() == pytest.approx(25.0, rel=0.08)
    others = np.ones((2, L - 1, K, D), bool)
    others[0, :, 1, 2] = False
    got, want = (np.moveaxis(x, 3, -1)[others] for x in (beside, alone))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_scaling_the_segment_scales_the_noise():
    """An inflated norm buys nothing."""
    noise = change(segment(), edit(segment(), SPAN, 0.5, KEY))
    large = segment(scale=8.0)
    np.testing.assert_allclose(change(large, edit(large, SPAN, 0.5, KEY)), 8 * noise, atol=1e-5)


def test_the_noise_of_a_token_depends_on_key_and_position_only():
    short, long = segment(exists=T), segment(size=SIZE, exists=T)
    long = Segment(long.k.at[:, :, :T].set(short.k), long.v.at[:, :, :T].set(short.v), long.mask)
    after, want = edit(long, jnp.pad(SPAN, (0, SIZE - T)), 0.5, KEY), edit(short, SPAN, 0.5, KEY)
    np.testing.assert_allclose(after.k[:, :, :T], want.k, atol=1e-6)
    # tokens outside the step neither move nor count for its RMS
    other = Segment(short.k.at[:, :, 0].multiply(100.0), short.v, short.mask)
    got = edit(other, SPAN, 0.5, KEY)
    np.testing.assert_allclose(got.k[:, :, 1:], want.k[:, :, 1:], atol=1e-6)


def test_another_key_is_another_perturbation():
    before = segment()
    one, two = edit(before, SPAN, 0.5, KEY), edit(before, SPAN, 0.5, jax.random.key(5))
    where = np.asarray(SPAN & before.mask)
    assert not np.any(np.asarray(one.k == two.k)[:-1, :, where])


def test_an_empty_step_is_left_alone():
    before = segment()
    with jax.debug_nans(True):
        after = edit(before, jnp.zeros(T, bool), 0.5, KEY)
    np.testing.assert_array_equal(after.k, before.k)
    assert not after.mask.any()


def test_a_model_of_one_layer_has_no_layer_below_the_last():
    one = jax.tree.map(lambda x: x[:1] if x.ndim > 1 else x, segment())
    with pytest.raises(UserError, match="latent_arms: .* one layer; set it to 0"):
        edit(one, SPAN, 0.5, KEY)


def test_restriction_is_a_mask_over_the_same_arrays():
    before = segment()
    after = restrict(before, 1, 4)
    assert after.k is before.k and after.v is before.v
    np.testing.assert_array_equal(after.mask, [False, True, True, True, False, False])
    np.testing.assert_array_equal(restrict(before, 3, T).mask, [0, 0, 0, 1, 1, 0])

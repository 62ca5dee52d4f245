import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.sampling import noise
from tests.helpers.rollouts import gumbels_of

ROOT = jax.random.key(3)
SIZE = 7


@jax.jit
def tapes(ids):
    """Noise [B, G = 2, V] of draw 1 at step 5, response token 1."""
    keys = noise.question_keys(ROOT, 5, ids)
    keys = jax.vmap(lambda key: noise.stream_keys(key, noise.TAPE, 2))(keys)
    return jax.vmap(jax.vmap(lambda key: noise.gumbel(noise.tape(key, 1), 1, SIZE)))(keys)


def one(step=5, question=11, stream=noise.TAPE, row=1, draw=1, t=1):
    """The same noise from its definition, one id after the other."""
    key = ROOT
    for part in (step, question, stream, row, draw, t):
        key = jax.random.fold_in(key, part)
    return gumbels_of(jax.random.bits(key, (SIZE,), jnp.uint32))


def test_noise_is_a_function_of_ids():
    np.testing.assert_allclose(tapes(jnp.uint32([11]))[0, 1], one(), atol=1e-6)


def test_batch_size_and_order_change_nothing():
    many = tapes(jnp.uint32([4, 9, 11, 2]))
    np.testing.assert_array_equal(many[2], tapes(jnp.uint32([11]))[0])
    np.testing.assert_array_equal(many[::-1], tapes(jnp.uint32([2, 11, 9, 4])))


def test_a_larger_group_changes_nothing_for_the_others():
    key = jax.random.key(0)
    small, large = noise.stream_keys(key, noise.TAPE, 2), noise.stream_keys(key, noise.TAPE, 5)
    np.testing.assert_array_equal(jax.random.key_data(small), jax.random.key_data(large)[:2])


@pytest.mark.parametrize(
    "other",
    [
        {"step": 6},
        {"step": noise.EVALUATION_STEP},
        {"question": 12},
        {"stream": noise.BOUNDARIES},
        {"stream": noise.LATENT},
        {"row": 0},
        {"draw": 0},
        {"t": 0},
    ],
    ids=str,
)
def test_every_id_gives_other_noise(other):
    step, question, stream, row, draw, t = {
        **dict(step=5, question=11, stream=noise.TAPE, row=1, draw=1, t=1),
        **other,
    }.values()
    key = noise.question_keys(ROOT, step, jnp.uint32([question]))[0]
    key = noise.stream_keys(key, stream, 3)[row]
    drawn = noise.gumbel(noise.tape(key, draw), t, SIZE)
    np.testing.assert_allclose(drawn, one(**other), atol=1e-6)
    assert not np.any(np.abs(drawn - one()) < 1e-5)


@pytest.mark.parametrize("recorded", [0, 3])
def test_a_tape_is_what_was_recorded_and_keyed_after_that(recorded):
    key = jax.random.key(5)
    tape = noise.Tape(key, jnp.arange(recorded * SIZE, dtype=jnp.float32).reshape(-1, SIZE))
    read = jax.jit(noise.at, static_argnums=2)
    for t in range(5):
        expected = tape.recorded[t] if t < recorded else noise.gumbel(key, t, SIZE)
        np.testing.assert_array_equal(read(tape, t, SIZE), expected)


@pytest.fixture(scope="module")
def sample():
    return np.asarray(noise.gumbel(jax.random.key(1), 0, 400_000), np.float64)


def test_moments_are_those_of_a_standard_gumbel(sample):
    assert abs(sample.mean() - np.euler_gamma) < 0.01
    assert abs(sample.var() - np.pi**2 / 6) < 0.02
    assert abs(np.mean(sample < 0) - np.exp(-1)) < 0.003


def test_words_are_mapped_to_the_whole_range(monkeypatch):
    """The ends are finite, and near the upper one every word gives another value."""
    words = np.array([0, 1, 2, 3, 100, 101, 2**31, 2**32 - 2**9, 2**32 - 1], np.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda *_: jnp.asarray(words))
    got = np.asarray(noise.gumbels(jax.random.key(0), words.shape), np.float64)
    np.testing.assert_allclose(got[:-2], gumbels_of(words[:-2]), rtol=1e-6)
    np.testing.assert_allclose(got[[0, 6]], [22.873857, 0.366513], atol=1e-5)
    np.testing.assert_allclose(got[-2:], [-2.769, -2.812], atol=1e-3)
    assert np.all(np.diff(got) <= 0) and np.all(np.diff(got[:7]) < 0)


def test_the_upper_tail_is_not_a_lattice(sample):
    """JAX's low mode has uniforms on a grid of 2^-23 near 1, hence a lattice and a cap near 16."""
    top = np.exp(-np.sort(sample)[-200:]) * 2**23
    off_grid = np.abs(top * 2 - np.round(top * 2))
    assert np.mean(off_grid > 0.1) > 0.5

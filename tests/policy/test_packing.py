"""Responses laid end to end: where they lie, and that reading them there changes nothing."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax import train
from gccpo_jax.policy import model, packing
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.logprobs import token_logp_and_entropy
from gccpo_jax.policy.packing import laid, pack, rows, unpack
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.types import UpdateBatch

FAMILIES = {"llama": {}, "biases": {"qkv_bias": True, "out_bias": True}, "norms": {"qk_norm": True}}


@pytest.fixture
def short(monkeypatch):
    """Rows of any length may be shared."""
    monkeypatch.setattr(packing, "LEAST", 1)


def test_by_hand(short):
    """5 and 3 fill a row of 8; 4, 2 and 1 share one; the fourth row of the group is not needed."""
    found = laid(np.array([[4, 5, 1, 3, 2]]), 8)
    none = 5 * 8
    first = [*range(8, 13), *range(24, 27)]
    second = [*range(4), *range(32, 34), 16, none]
    np.testing.assert_array_equal(found, [[first, second]])


@pytest.mark.parametrize(
    ("lengths", "size"), [([[8, 8, 8, 7]], 8), ([[5, 5, 5, 5]], 8), ([[1]], 8), ([[], []], 8)]
)
def test_none_where_no_row_is_saved(short, lengths, size):
    assert laid(np.array(lengths, int), size) is None


def test_short_rows_stay_as_they_are():
    assert laid(np.ones((2, 8), int), packing.LEAST - 1) is None
    assert laid(np.ones((2, 8), int), packing.LEAST) is not None


def test_the_numbers_of_rows_are_few():
    assert rows(8) == (1, 2, 3, 4, 6, 8)
    assert all(len(rows(n)) <= 2 + 2 * np.log2(n) for n in range(2, 100))
    assert all(b <= np.ceil(1.5 * a) for n in range(2, 100) for a, b in pairwise(rows(n)))


@given(st.lists(st.lists(st.integers(0, 128), min_size=6, max_size=6), min_size=1, max_size=3))
def test_each_token_lies_once_and_in_order(lengths):
    lengths = np.array(lengths)
    found = laid(lengths, 128)
    least = max(-(-lengths.sum(1).max() // 128), 1)
    if found is None:
        assert least > 3, "no two of six share a row, so any three pairs are longer than three"
        return
    for b in range(len(lengths)):
        expected = [g * 128 + t for g in range(6) for t in range(lengths[b, g])]
        assert sorted(found[b][found[b] < 6 * 128]) == expected
        for row in found[b]:
            for g in set(row[row < 6 * 128] // 128):
                slots = np.flatnonzero(row // 128 == g)
                np.testing.assert_array_equal(row[slots], g * 128 + np.arange(lengths[b, g]))
                np.testing.assert_array_equal(np.diff(slots), 1)


def test_unpacking_is_the_way_back(short):
    lengths = np.array([[3, 0, 8, 1, 4]])
    index = laid(lengths, 8)[0]
    x = np.arange(1, 41, dtype=np.float32).reshape(5, 8)
    inside = np.arange(8) < lengths[0][:, None]
    np.testing.assert_array_equal(unpack(pack(jnp.array(x), index), index, 5), x * inside)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_reading_shared_rows_is_reading_each(short, family, remat):
    """Log-probabilities, entropies and the gradient of both, with prompts of two lengths."""
    arch = Arch(40, 32, 2, 4, 2, 8, 48, **FAMILIES[family])
    policy, params = model.make_policy(arch, remat), model.init(arch, jax.random.key(0))
    lengths = np.array([[12, 5, 7, 3, 0], [2, 6, 1, 1, 12]])
    tokens = jax.random.randint(jax.random.key(1), (2, 5, 12), 1, 40)
    mask = jnp.asarray(np.arange(12) < lengths[..., None])
    prompt = jax.random.randint(jax.random.key(2), (2, 6), 1, 40)
    prompt_mask = jnp.asarray(np.arange(6) < np.array([[6], [4]]))
    weight = jax.random.normal(jax.random.key(3), (2, *tokens.shape))

    def total(params, index):
        found = token_logp_and_entropy(
            policy, params, prompt, prompt_mask, tokens, mask, index, rule=Rule(0.7), chunk=16
        )
        return jnp.sum(jnp.stack(found) * weight), found

    read = jax.jit(jax.value_and_grad(total, has_aux=True))
    index = jnp.asarray(laid(lengths, 12))
    assert index.shape == (2, 3, 12)
    (ours, each), gradient = read(params, index)
    (apart, each_apart), gradient_apart = read(params, None)
    np.testing.assert_allclose(ours, apart, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), each, each_apart)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), gradient, gradient_apart)


def test_a_batch_for_the_update_is_laid_end_to_end(monkeypatch):
    """From the limit to the longest row, and from rows to shared ones; context is read too."""
    monkeypatch.setattr(packing, "LEAST", 64)
    lengths = np.array([[40, 3, 9, 60], [10, 20, 30, 1]])
    places = jnp.broadcast_to(jnp.arange(256), (2, 4, 256))
    mask = places < lengths[..., None]
    numbers = places.astype(jnp.float32)
    context = mask & (places < 5)
    prompt = jnp.ones((2, 3), jnp.int32)
    batch = UpdateBatch(
        prompt, prompt > 0, places, mask & ~context, *[numbers] * 3, context=context
    )
    found = train.compact(batch)
    assert found.tokens.shape == (2, 4, 64)
    np.testing.assert_array_equal(found.index, laid(lengths, 64))
    assert found.index.shape == (2, 2, 64)

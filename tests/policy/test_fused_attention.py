"""The kernel's arguments say what `attend` computes; the kernel itself needs an NVIDIA GPU."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.policy import fused_attention, model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.attention import attend
from gccpo_jax.training.session import open_session

ARCH = Arch(64, 32, 2, 4, 2, 8, 48)
HEADS, KEYS, SIZE = 4, 2, 8


@pytest.fixture
def by_xla(monkeypatch):
    """JAX's own attention under the same arguments in place of cuDNN's."""
    real = jax.nn.dot_product_attention

    def attention(*given, implementation="xla", **more):
        return real(*given, implementation="xla", **more)

    monkeypatch.setattr(fused_attention.jax.nn, "dot_product_attention", attention)


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("past", [(), (5,), (4, 3)])
@pytest.mark.parametrize("several", [False, True])
def test_attends_to_what_attend_does(by_xla, size, past, several):
    q, k, v = drawn(size, HEADS, SIZE), drawn(KEYS, size, SIZE, seed=1), drawn(KEYS, size, SIZE)
    mask = jnp.arange(size) < size - 1
    before = tuple(
        (drawn(KEYS, n, SIZE, seed=n), drawn(KEYS, n, SIZE, seed=9), jnp.arange(n) != 1)
        for n in past
    )
    sequences = jnp.arange(size) // 3 if several else None

    def total(by, q, k, v, before):
        out = by(q, k, v, mask, before, sequences)
        return jnp.sum(jnp.where(mask[:, None, None], out, 0.0) ** 2), out

    def found(by):
        run = jax.value_and_grad(partial(total, by), (0, 1, 2), has_aux=True)
        (_, out), grads = run(q, k, v, before)
        return out[: size - 1], grads

    for a, b in zip(
        jax.tree.leaves(found(fused_attention.attend_fused)),
        jax.tree.leaves(found(attend)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_long_texts_alone_are_read_so(by_xla, monkeypatch):
    """Same hidden states as without, where a text is long enough to be read by it."""
    calls = []
    real = fused_attention.attend_fused
    monkeypatch.setattr(
        fused_attention, "attend_fused", lambda *given: calls.append(1) or real(*given)
    )
    params = model.init(ARCH, jax.random.key(0))
    tokens = jnp.arange(130) % ARCH.vocab_size
    for size, used in ((130, True), (100, False)):
        given = (tokens[:size], jnp.arange(size), jnp.ones(size, bool), ())
        calls.clear()
        hidden = model.make_policy(ARCH, fused=True).encode(params, *given)[0]
        assert bool(calls) == used
        expected = model.make_policy(ARCH).encode(params, *given)[0]
        np.testing.assert_allclose(hidden, expected, rtol=1e-4, atol=1e-4)


def test_a_machine_without_it_is_told_so():
    with pytest.raises(UserError, match=r"config.policy.attention = 'cudnn'.*set 'xla'"):
        fused_attention.check_fused(ARCH, "bfloat16")


def test_a_run_asks_first():
    config = default()
    config.policy.attention = "cudnn"
    config.policy.compute = "bfloat16"
    with pytest.raises(UserError, match="set 'xla'"):
        open_session(freeze(config))

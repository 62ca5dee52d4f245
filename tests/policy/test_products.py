"""Products of narrow operands: float32 forward, narrow products backward, nothing rounded twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.products import wide_product

ARCH = Arch(64, 32, 2, 4, 2, 8, 48)


def drawn(shape, dtype, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def operands(dtype):
    return drawn((5, 7), dtype, 0), drawn((9, 7), dtype, 1), drawn((5, 9), jnp.float32, 2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_value_and_gradients(dtype):
    a, b, out = operands(dtype)
    found, back = jax.vjp(lambda a, b: wide_product("im,jm->ij", a, b), a, b)
    x, y = (np.asarray(x, np.float32) for x in (a, b))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, x @ y.T, rtol=1e-5, atol=1e-5)
    narrow = np.asarray(out.astype(dtype), np.float32)
    for got, expected in zip(back(out), (narrow @ y, narrow.T @ x), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=1e-2, atol=1e-2)


def test_nothing_is_multiplied_in_float32_going_back():
    a, b, out = operands(jnp.bfloat16)

    def total(product, a, b):
        return (product(a, b) * out).sum()

    def dots(product):
        jaxpr = jax.make_jaxpr(jax.grad(lambda a, b: total(product, a, b), (0, 1)))(a, b)
        found = [e for e in jaxpr.jaxpr.eqns if e.primitive.name == "dot_general"]
        return [{str(v.aval.dtype) for v in e.invars} for e in found]

    plain = lambda a, b: jnp.einsum(  # noqa: E731
        "im,jm->ij", a, b, preferred_element_type=jnp.float32
    )
    assert any("float32" in names for names in dots(plain))  # what it is for
    found = dots(lambda a, b: wide_product("im,jm->ij", a, b))
    assert found and all(names == {"bfloat16"} for names in found)


def test_forward_mode_and_rows():
    """What `compressed.py` differentiates forward and what `vmap` maps."""
    a, b, _ = operands(jnp.float32)
    given = lambda a: wide_product("im,jm->ij", a, b)  # noqa: E731
    value, change = jax.jvp(given, (a,), (a,))
    np.testing.assert_allclose(value, change, rtol=1e-6)
    rows = jax.vmap(lambda row: wide_product("m,jm->j", row, b))(a)
    np.testing.assert_allclose(rows, value, rtol=1e-5, atol=1e-6)


def test_decoders_products_lie_as_each_platform_wants_them():
    """A CPU multiplies with the weights on the left, behind a barrier; others as they come."""
    policy = model.make_policy(ARCH)
    params = jax.eval_shape(policy.decoder.unroll, model.abstract(ARCH))
    hidden = jax.ShapeDtypeStruct((4, ARCH.width), jnp.float32)
    read = jax.vmap(policy.logits, in_axes=(None, 0))
    traced = jax.jit(read).trace(params, hidden)
    texts = {
        name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")
    }
    held = {name: "optimization_barrier" in text for name, text in texts.items()}
    assert held == {"cpu": True, "cuda": False, "tpu": False}

"""Peaks of small programs, counted by hand; [8, 8] float32 is 256 bytes."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.custom_batching import custom_vmap

from gccpo_jax.training.planning.liveness import nbytes, peak

A = jax.ShapeDtypeStruct((8, 8), jnp.float32)


def peak_of(function, *arguments, donated=()):
    return peak(jax.make_jaxpr(function)(*arguments), donated)


@pytest.mark.parametrize(
    "function, arguments, by_hand",
    [
        (lambda a, b: jnp.sin(a @ b), (A, A), 256),  # written over the product
        (lambda a: jnp.sum(a * 2 + 1), (A,), 4),  # nothing but the sum exists
        (lambda a, b: (a @ b) @ (b @ a), (A, A), 3 * 256),
        (lambda a, b: (((a @ b) @ b) @ b).sum(), (A, A), 2 * 256 + 4),  # the first is gone by then
        # The result's own memory waits for it: XLA takes as much for this.
        (lambda a, b: (((a @ b) @ b) @ b) @ b, (A, A), 3 * 256),
        (lambda a: a.T.reshape(4, 16).reshape(-1)[:, None].sum(), (A,), 4),
        (lambda a: (jnp.exp(a).sum(), jnp.exp(a).max()), (A,), 8),
        (lambda a: (lambda y: (y.sum(), y.max()))(jnp.exp(a)), (A,), 256 + 8),  # read twice
        (lambda a: (lambda y: (y.sum(), y.max()))(a * 2), (A,), 8),  # cheap: made twice
        (lambda a, b: (a @ b, a.sum())[1], (A, A), 4),  # an unused product costs nothing
        # Joined with nothing, or with an axis of 1 more, it is the product itself.
        (lambda a, b: jnp.concatenate([a[:, :0], a @ b], 1)[None, :, None].sum(), (A, A), 256 + 4),
        (lambda a, b: jnp.concatenate([a, a @ b], 1).sum(), (A, A), 256 + 512 + 4),
    ],
)
def test_values_that_are_alive(function, arguments, by_hand):
    assert peak_of(function, *arguments) == by_hand


def test_a_call_with_a_rule_of_its_own_for_vmap_is_read():
    product = custom_vmap(lambda a, b: a @ b)
    product.def_vmap(lambda size, batched, a, b: (a @ b, True))
    assert peak_of(lambda a, b: product(a, b).sum(), A, A) == 256 + 4


def test_donated_arguments_are_written_over():
    assert peak_of(lambda a: a + 1, A) == 256
    assert peak_of(lambda a: a + 1, A, donated=(True,)) == 0
    assert peak_of(lambda a, b: a @ b, A, A, donated=(True, False)) == 256, "a product reads it all"


def test_a_loop_holds_its_state_its_results_and_one_pass():
    def state(x, w):
        return lax.scan(lambda c, _: (c @ w, None), x, None, length=5)[0]

    def stacked(x, w):
        return lax.scan(lambda c, _: (c, c @ w), x, None, length=5)[1]

    def waiting(x):
        return lax.while_loop(lambda c: c.sum() < 1, lambda c: c @ c, x)

    assert peak_of(state, A, A) == 256 + 256
    assert peak_of(stacked, A, A) == 5 * 256 + 256, "its state never changes"
    assert peak_of(waiting, A) == 256 + 256


def test_a_loop_copies_what_it_reads_in_another_order():
    def total(x, w):
        return lax.scan(lambda c, row: (c + row @ w, None), jnp.zeros(8), x)[0]

    rows = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    columns = jax.ShapeDtypeStruct((8, 4), jnp.float32)
    straight = peak_of(total, rows, A)
    assert straight == 32 + 32 + 32, "the sum, a row and its product"
    assert peak_of(lambda x, w: total(x.T, w), columns, A) == straight + 4 * 8 * 4
    assert peak_of(lambda x, w: total(x.T.T, w), rows, A) == straight


def test_state_updated_in_another_order_is_copied_for_loops_inside():
    """The cache [L, B, S] of a decoding loop, written at [B, :, s] and read layer by layer."""
    cache = jax.ShapeDtypeStruct((3, 4, 8), jnp.float32)

    def decode(cache, turned):
        def body(state):
            s, cache = state
            total = lax.scan(lambda c, layer: (c + (layer @ layer.T).sum(), None), 0.0, cache)[0]
            if turned:
                rows = jnp.moveaxis(cache, 1, 0)
                new = jnp.full((4, 3, 1), total)
                rows = lax.dynamic_update_slice(rows, new, (0, 0, s))
                return s + 1, jnp.moveaxis(rows, 0, 1)
            new = jnp.full((3, 4, 1), total)
            return s + 1, lax.dynamic_update_slice(cache, new, (0, 0, s))

        return lax.while_loop(lambda state: state[0] < 8, body, (0, cache))[1]

    size = 3 * 4 * 8 * 4
    plain, turned = (peak_of(lambda c, t=t: decode(c, t), cache) for t in (False, True))
    assert size < plain < 2 * size and turned == plain + size


def test_recomputing_layers_lowers_the_peak_of_a_gradient():
    weights = jax.ShapeDtypeStruct((6, 8, 8), jnp.float32)
    x = jax.ShapeDtypeStruct((64, 8), jnp.float32)

    def loss(remat):
        layer = lambda x, w: (jnp.tanh(jnp.tanh(x @ w) @ w) + x, None)  # noqa: E731
        body = jax.checkpoint(layer) if remat else layer
        return jax.grad(lambda w, x: lax.scan(body, x, w)[0].sum())

    kept, again = (peak_of(loss(remat), weights, x) for remat in (False, True))
    rows = 64 * 8 * 4
    assert kept - again > 6 * rows, "at least one value a layer is not kept"
    assert again >= 6 * rows, "the inputs of the layers are"


def test_bytes_of_keys_and_arrays():
    assert nbytes(jax.ShapeDtypeStruct((3, 5), jnp.bfloat16)) == 30
    assert nbytes(jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))) == 24

"""Laws that every advantage, reward, curation, penalty, weight and loss obeys, one table for all.

    order     rows in another order give the same in that order
    padding   tokens, steps and rows that are masked change nothing, whatever they hold
    jit       is eager
    edges     all equal, all masked, one row, one token: finite in value and gradient

and the gradients of the losses against central differences in float64. Numbers and
oracles of each function are in the test file of its module.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.objective_table import EVERY, ROWS, SMOOTH, D, E, G, T, example


def both(f, floats, rest):
    """Value, and its gradient by every float; of rows that of their squares: many sum to 0."""

    def total(floats):
        out = f(floats | rest)
        return jnp.sum(out**2) if out.ndim else out, out

    (_, value), gradient = jax.value_and_grad(total, has_aux=True)(floats)
    return value, gradient


@jax.jit
def every(floats, rest):
    return {name: both(f, floats, rest) for name, f in EVERY.items()}


@pytest.fixture(scope="module")
def found():
    return every(*example())


def close(ours, theirs, name):
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-5, err_msg=name)


def test_the_example_has_something_to_show(found):
    for name, (value, gradient) in found.items():
        assert np.any(value), name
        assert name in ROWS or np.any(gradient["logp"]), name


def test_rows_in_another_order_give_the_same_in_that_order(found):
    order = np.array([3, 0, 4, 2, 1])
    moved = every(*jax.tree.map(lambda x: x[order], example()))
    for name, (value, gradient) in found.items():
        close(moved[name][0], value[order] if name in ROWS else value, name)
        for of, slope in gradient.items():
            close(moved[name][1][of], slope[order], f"{name} by {of}")


def test_what_is_masked_changes_nothing_whatever_it_holds(found):
    """Two more rows, steps and tokens, of nonsense."""

    def wider(x):
        if x.dtype == bool:
            fill = False
        else:
            fill = E + 2 if x.dtype == int else jnp.nan
        columns = [(0, 2)] + [(0, 2 if x.shape[-1] != D else 0)] * (x.ndim > 1)
        return jnp.pad(x, columns + [(0, 0)] * (x.ndim - len(columns)), constant_values=fill)

    floats, rest = example()
    latent = jnp.pad(floats.pop("latent"), ((0, 2), (0, 0), (0, 0)), constant_values=jnp.nan)
    rest["step"] = jnp.where(rest["inside"], rest["step"], E + 2)
    wide = every(jax.tree.map(wider, floats) | {"latent": latent}, jax.tree.map(wider, rest))

    def inner(x, like, name):
        """The part of x that the example has; there is nothing in the rest."""
        part = tuple(slice(n) for n in like.shape)
        assert np.sum(np.asarray(x) != 0) == np.sum(np.asarray(x[part]) != 0), name
        return x[part]

    for name, (value, gradient) in found.items():
        close(inner(wide[name][0], value, name), value, name)
        for of, slope in gradient.items():
            close(inner(wide[name][1][of], slope, name), slope, f"{name} by {of}")


@pytest.mark.slow
def test_jit_is_eager(found):
    floats, rest = example()
    for name, f in EVERY.items():
        close(f(floats | rest), found[name][0], name)


def edges():
    """name -> a group with little to tell apart, of the example's shapes."""
    floats, rest = example()

    def fill(value, *names):
        value = jnp.float32(value)
        return {n: jnp.where(jnp.isnan(floats[n]), floats[n], value) for n in names or floats}

    def kept(rows, tokens=T):
        kept = {n: rest[n] & rows[:, None] for n in ("inside", "steps")}
        kept["inside"] &= jnp.arange(T)[None] < tokens
        return rest | kept | {"where": rest["where"] & rows}

    return {
        "all equal": (fill(0.3), rest),
        "all right": (floats | fill(1.0, "reward"), rest),
        "all wrong, on-policy": (
            floats | fill(0.0, "reward") | dict.fromkeys(("old", "sampler"), floats["logp"]), rest
        ),
        "certain": (fill(0.0), rest),
        "all masked": (fill(jnp.nan), kept(jnp.zeros(G, bool))),
        "one row": (floats, kept(jnp.arange(G) == 1)),
        "one token": (floats, kept(jnp.ones(G, bool), tokens=1)),
        "excluded": (floats | fill(-1e30, "logp"), rest),
        "far apart": (floats | fill(-1e30, "old") | fill(-100.0, "reference"), rest),
    }  # fmt: skip


@pytest.mark.parametrize("case", edges())
def test_value_and_gradient_are_finite_at_the_edges(case):
    for name, (value, gradient) in every(*edges()[case]).items():
        assert np.isfinite(value).all(), name
        assert name == "supervised" or np.abs(value).max() < 1e11, name  # clamps, e^20 each
        for of, slope in gradient.items():
            assert np.isfinite(slope).all(), f"{name} by {of}"
        if case == "all masked":
            assert not np.any(value), name


def test_gradients_are_central_differences_in_float64():
    """Along three directions; no token of the example is near a clip's kink."""
    with jax.enable_x64(True):
        floats, rest = example()
        floats = {n: jnp.nan_to_num(x.astype(jnp.float64)) for n, x in floats.items()}
        point = {n: floats[n] for n in ("logp", "entropy")}

        @jax.jit
        def values(point):
            return jnp.stack([f(floats | rest | point) for f in SMOOTH.values()])

        slopes = jax.jit(jax.jacrev(values))(point)
        random = np.random.default_rng(5)
        for _ in range(3):
            way = {n: jnp.asarray(random.normal(size=(G, T))) for n in point}
            ends = [
                values(jax.tree.map(lambda x, d, h=h: x + h * d, point, way)) for h in (1e-5, -1e-5)
            ]
            expected = np.asarray(ends[0] - ends[1]) / 2e-5
            got = sum(np.einsum("ngt,gt->n", slopes[n], way[n]) for n in point)
            for name, ours, theirs in zip(SMOOTH, got, expected, strict=True):
                assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9), name

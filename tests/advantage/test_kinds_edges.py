"""Groups with little or nothing to credit, under every kind: defined, finite, differentiable."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.config import CreditConfig
from tests.helpers.groups import E, G, P, arms_like, change, credit_one, group, no_longer_usable

YES = jnp.bool_(True)
KINDS = ["gated_gae", "additive", "selective", "four_corner", "paper"]


@jax.jit
@partial(jax.value_and_grad, has_aux=True)
def total(floats, reading, spans, rollout):
    """Sum of the advantages of every kind, with gradients by all that was read."""
    floats = dict(floats)
    logp = floats.pop("logp")
    for name in ("nuisance", "content"):
        floats[name] = arms_like(getattr(reading, name), laws=floats[name])
    data = change(reading, **floats), spans, change(rollout, logp=logp)
    found = {kind: credit_one(*data, YES, rule=CreditConfig(kind=kind)) for kind in KINDS}
    return sum(credit.advantage.sum() for credit in found.values()), found


@cache
def edge_cases():
    """name -> a group that has little or nothing to credit; two shapes only."""
    reading, spans, rollout = jax.tree.map(np.asarray, group(1))
    nothing = type(spans)(0 * spans.start, 0 * spans.end, spans.mask & False)
    one = type(spans)(0 * spans.start, 0 * spans.end + 1, np.arange(E)[None] < np.ones((G, 1)))
    certain = np.zeros_like(reading.factual)
    certain[..., 0] = 1.0
    certain_arms = np.repeat(certain[:, :, None], P, axis=2)
    return {
        "no steps": (reading, nothing, change(rollout, length=0 * rollout.length)),
        "one token": (reading, one, change(rollout, length=0 * rollout.length + 1)),
        "unscorable": (change(reading, scorable=~reading.scorable), spans, rollout),
        "one scorable": (change(reading, scorable=np.arange(G) == 2), spans, rollout),
        "all wrong": (change(reading, outcome=0 * reading.outcome), spans, rollout),
        "no arms took place": (
            change(
                reading,
                nuisance=no_longer_usable(reading.nuisance),
                content=no_longer_usable(reading.content),
            ),
            spans,
            rollout,
        ),
        "collapsed": (
            change(
                reading,
                factual=certain,
                nuisance=arms_like(reading.nuisance, laws=certain_arms),
                content=arms_like(reading.content, laws=certain_arms),
                energy=0 * reading.energy,
            ),
            spans,
            change(rollout, logp=0 * rollout.logp),
        ),
        "unreadable": (change(reading, factual=np.roll(certain, -1, -1)), spans, rollout),
        "no arms asked for": (
            change(
                reading,
                nuisance=jax.tree.map(lambda x: x[:, :, :0], reading.nuisance),
                content=jax.tree.map(lambda x: x[:, :, :0], reading.content),
            ),
            spans,
            rollout,
        ),
    }


def inputs(name):
    reading, spans, rollout = edge_cases()[name]
    floats = {name: getattr(reading, name) for name in ("outcome", "factual", "energy")}
    floats |= {"value": np.nan_to_num(reading.value), "logp": rollout.logp}
    floats |= {"nuisance": reading.nuisance.laws, "content": reading.content.laws}
    return floats, reading, spans, rollout


@pytest.mark.parametrize("name", edge_cases())
def test_value_and_gradient_are_finite_at_the_edges(name):
    (value, found), gradient = total(*inputs(name))
    assert np.isfinite(value)
    for key, grad in gradient.items():
        assert np.isfinite(grad).all(), key
    for case, credit in found.items():
        for field, x in vars(credit).items():
            assert np.isfinite(x).all(), (case, field)


def test_a_collapsed_reader_is_robust_and_selects_nothing():
    """Equal laws everywhere: R is 1 because it was measured, Q is 0, nothing is credited by it."""
    found = total(*inputs("collapsed"))[0][1]
    np.testing.assert_array_equal(found["selective"].robustness, 1)
    np.testing.assert_array_equal(found["selective"].selectivity, 0)
    assert found["gated_gae"].defined.any()


def test_what_was_not_measured_is_not_called_robust():
    credit = total(*inputs("unreadable"))[0][1]["four_corner"]
    for name in ("defined", "content_defined", "selective_defined"):
        assert not np.asarray(getattr(credit, name)).any()
    np.testing.assert_array_equal(credit.sensitivity, 0)

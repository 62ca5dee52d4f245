"""Credit of a group by the default kind: the pieces of the method put together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.advantage import baselines
from gccpo_jax.advantage.credit import spread
from gccpo_jax.advantage.kinds import outcome_only
from gccpo_jax.config import CreditConfig
from gccpo_jax.types import Spans
from tests.helpers.groups import E, G, P, T, arms_like, change, credit_one, group, reorder

YES = jnp.bool_(True)
gated_gae = jax.jit(credit_one, static_argnames=("rule",))


@pytest.mark.parametrize("seed", range(5))
def test_no_gate_no_decay_and_the_group_mean_as_value_is_leave_one_out(seed):
    reading, spans, rollout = group(seed)
    mean = jnp.broadcast_to(reading.outcome.mean(), (G, E))
    rule = CreditConfig(gate=False, lam=1.0)
    # One step a trajectory, so that every trajectory has siblings at each step index.
    whole = Spans(jnp.zeros((G, 1), jnp.int32), rollout.length[:, None], jnp.ones((G, 1), bool))
    per_step = {
        k: jax.tree.map(lambda a: a[:, :1], x)
        for k, x in vars(reading).items()
        if k not in ("outcome", "scorable", "equivariance", "start")
    }
    one = change(reading, **(per_step | {"value": mean[:, :1]}))
    credit = gated_gae(one, whole, rollout, YES, rule=rule)
    expected = baselines.leave_one_out(reading.outcome, reading.scorable)
    np.testing.assert_allclose(credit.step_advantage[:, 0], expected, atol=1e-6)
    full = Spans(spans.start, spans.end, jnp.ones((G, E), bool))
    credit = gated_gae(change(reading, value=mean), full, rollout, YES, rule=rule)
    np.testing.assert_allclose(
        credit.step_advantage, np.repeat(expected[:, None], E, axis=1), atol=1e-6
    )


@pytest.mark.parametrize("seed", range(5))
def test_effects_telescope_to_outcome_minus_group_mean(seed):
    reading, spans, rollout = group(seed)
    credit = gated_gae(reading, spans, rollout, YES, rule=CreditConfig())
    total = np.asarray(credit.effect).sum(1)
    np.testing.assert_allclose(total, reading.outcome - reading.outcome.mean(), atol=1e-6)


def test_the_gate_shrinks_positive_effects_only():
    reading, spans, rollout = group()
    credit = gated_gae(reading, spans, rollout, YES, rule=CreditConfig())
    effect, gated = np.asarray(credit.effect), np.asarray(credit.gated)
    robust = np.asarray(credit.robustness)
    np.testing.assert_allclose(gated, np.where(effect > 0, robust * effect, effect), atol=1e-6)
    assert (gated[effect > 0] < effect[effect > 0]).all()


def test_a_reader_under_its_gate_gates_nothing():
    reading, spans, rollout = group()
    credit = gated_gae(reading, spans, rollout, jnp.bool_(False), rule=CreditConfig())
    assert not np.asarray(credit.defined).any()
    np.testing.assert_array_equal(credit.gated, credit.effect)


def test_unreadable_laws_take_the_median_of_the_group():
    reading, spans, rollout = group()
    hidden = reading.factual.at[1, 0].set(jnp.array([0.1, 0.1, 0.1, 0.7]))
    credit = gated_gae(change(reading, factual=hidden), spans, rollout, YES, rule=CreditConfig())
    defined = np.asarray(credit.defined)
    assert not defined[1, 0]
    measured = np.asarray(credit.robustness)[defined]
    assert credit.robustness[1, 0] == pytest.approx(np.median(measured), abs=1e-6)


def test_an_unscorable_trajectory_gets_nothing_and_changes_nothing_for_the_others():
    reading, spans, rollout = group()
    out = change(reading, scorable=jnp.array([True, False, True, True]))
    credit = gated_gae(out, spans, rollout, YES, rule=CreditConfig())
    assert not np.asarray(credit.advantage[1]).any()
    absurd = change(out, outcome=out.outcome.at[1].set(99.0), value=out.value.at[1].set(jnp.nan))
    again = gated_gae(absurd, spans, rollout, YES, rule=CreditConfig())
    np.testing.assert_array_equal(credit.advantage, again.advantage)


def test_order_in_the_group_does_not_matter():
    reading, spans, rollout = group()
    order = jnp.array([2, 0, 3, 1])
    credit = gated_gae(reading, spans, rollout, YES, rule=CreditConfig())
    rows = reorder((reading, spans, rollout), order)
    permuted = gated_gae(*rows, YES, rule=CreditConfig())
    np.testing.assert_allclose(permuted.advantage, credit.advantage[order], atol=1e-6)


def test_all_tokens_of_a_step_share_its_advantage_and_the_rest_have_none():
    reading, spans, rollout = group()
    credit = gated_gae(reading, spans, rollout, YES, rule=CreditConfig())
    for g in range(G):
        expected = np.zeros(T)
        for k in range(E):
            if spans.mask[g, k]:
                expected[int(spans.start[g, k]) : int(spans.end[g, k])] = credit.step_advantage[
                    g, k
                ]
        np.testing.assert_array_equal(credit.advantage[g], expected.astype(np.float32))


def test_surprise_keeps_the_mean_of_every_step():
    _, spans, rollout = group()
    row = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
    steps = jnp.array([1.0, -2.0, 0.5])
    even = spread(steps, row(spans), row(rollout), "uniform")
    uneven = spread(steps, row(spans), row(rollout), "surprise")
    assert not np.allclose(even, uneven)
    for a, b, kept in zip(spans.start[0], spans.end[0], spans.mask[0], strict=True):
        if kept:
            assert uneven[a:b].mean() == pytest.approx(float(even[a:b].mean()), abs=1e-5)


@pytest.mark.parametrize("baseline", ["zscore", "leave_one_out"])
def test_outcome_only_is_one_number_for_all_tokens(baseline):
    reading, _, rollout = group()
    rule = CreditConfig(kind="outcome", baseline=baseline)
    found = outcome_only(reading.outcome, reading.scorable, rollout, rule=rule)
    inside = np.arange(T) < np.asarray(rollout.length)[:, None]
    assert not np.asarray(found)[~inside].any()
    for g in range(G):
        assert len(set(np.asarray(found[g])[inside[g]].tolist())) == 1


def test_equal_outcomes_and_laws_give_finite_zeros():
    reading, spans, rollout = group()
    flat = change(
        reading, outcome=jnp.ones(G), value=jnp.ones((G, E)),
        nuisance=arms_like(
            reading.nuisance, laws=jnp.repeat(reading.factual[:, :, None], P, axis=2)
        ),
    )  # fmt: skip
    with jax.debug_nans(True):
        credit = gated_gae(flat, spans, rollout, YES, rule=CreditConfig())
    assert not np.asarray(credit.advantage).any()
    assert (np.asarray(credit.robustness)[np.asarray(credit.defined)] == 1).all()

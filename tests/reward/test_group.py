"""One scorer: what training measures is what the library scores, and what an analysis credits."""

import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import reward
from gccpo_jax.advantage.kinds import credit_batch, credit_group
from gccpo_jax.analysis.suites.rows import method_credit
from gccpo_jax.config import CreditConfig
from gccpo_jax.reward import Family, Laws, Score, no_arms
from gccpo_jax.reward.group import (
    GroupReading,
    measure,
    transported_reading,
    transported_reward,
)
from gccpo_jax.types import Segment, Spans
from tests.helpers.groups import C, E, G, T, change, group

B = 2
RULE = {"gate": True, "gate_answer": True, "gate_by": "robustness", "max_other": 0.2}
PARTS = {
    "robustness": ("robustness", "defined"),
    "sensitivity": ("sensitivity", "content_defined"),
    "selectivity": ("selectivity", "selective_defined"),
}


@pytest.fixture(scope="module")
def batch():
    """What was read, spans and rollout of two questions, with a Phi before the first step."""
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(group(seed) for seed in range(B)))
    cache = jnp.zeros((3, B, G, 1, T, 2))  # layers come first, as sampling leaves it
    rollout = change(stacked[2], segment=Segment(cache, cache, jnp.ones((B, G, T), bool)))
    start = jnp.asarray(np.random.default_rng(5).random((B, G)), jnp.float32)
    return change(stacked[0], start=start), stacked[1], rollout


def laws_of(reading, spans):
    """The same laws as a stranger brings them to the library: [B, G, ...], with a gold answer."""
    return Laws(
        before=reading.factual[:, :, 0],
        factual=reading.factual,
        mask=spans.mask,
        gold=jnp.zeros((B, G), jnp.int32),
        nuisance=reading.nuisance,
        content=reading.content,
        baseline=no_arms(Family.BASELINE, (B, G, E), C + 1),
    )


def analysis_of(reading, spans):
    """What an analysis of the same trajectories has in the fields that its credit reads."""
    mask, outcome = np.asarray(spans.mask), np.asarray(reading.outcome, float)
    value = np.full((B, G, E + 1), np.nan)
    value[..., 0] = reading.start
    value[..., 1:] = reading.value
    np.put_along_axis(value, mask.sum(-1, keepdims=True), outcome[..., None], axis=-1)
    return types.SimpleNamespace(
        mask=mask,
        spans=jax.tree.map(np.asarray, spans),
        outcome=outcome,
        value=value,
        effect=np.where(mask, value[..., 1:] - value[..., :-1], np.nan),
        laws=laws_of(reading, spans),
        equivariance=np.asarray(reading.equivariance),
    )


def test_training_the_library_and_an_analysis_agree(batch):
    reading, spans, rollout = batch
    measured = reward.measure(reading, spans, jnp.bool_(True), **RULE)
    found = reward.score_batch(laws_of(reading, spans))
    for name, (value, defined) in PARTS.items():
        scored = getattr(found, name)
        np.testing.assert_array_equal(scored.defined, getattr(measured, defined), err_msg=name)
        got = np.where(scored.defined, getattr(measured, value), 0)
        np.testing.assert_allclose(got, scored.value, atol=1e-6, err_msg=name)
    credit = credit_batch(*batch, jnp.bool_(True), rule=CreditConfig(), max_other=0.2)
    gated, advantage = method_credit(analysis_of(reading, spans), rollout)
    mask = np.asarray(spans.mask)
    assert np.isnan(gated[~mask]).all() and np.isnan(advantage[~mask]).all()
    np.testing.assert_allclose(gated[mask], np.asarray(credit.gated)[mask], atol=1e-6)
    np.testing.assert_allclose(advantage[mask], np.asarray(credit.step_advantage)[mask], atol=1e-6)
    effect = analysis_of(reading, spans).effect
    np.testing.assert_allclose(effect[mask], np.asarray(measured.effect)[mask], atol=1e-6)


def test_a_batch_is_scored_trajectory_by_trajectory(batch):
    laws = laws_of(*batch[:2])
    together = reward.score_batch(laws, max_other=0.4)
    for b, g in np.ndindex(B, G):
        alone = reward.score(jax.tree.map(lambda x, at=(b, g): x[at], laws), max_other=0.4)
        for got, wanted in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(got[b, g], wanted, atol=1e-6)
    assert isinstance(together.value, Score) and together.readable.shape == (B, G, E)


def test_a_batch_is_measured_and_credited_group_by_group(batch):
    reading, spans, rollout = batch
    scores = reward.measure(reading, spans, jnp.bool_(True), **RULE)
    together = credit_batch(*batch, jnp.bool_(True), rule=CreditConfig(), max_other=0.2)
    for b in range(B):
        without = change(rollout, segment=None)
        one = jax.tree.map(lambda x, b=b: x[b], (reading, scores, spans, without))
        alone = credit_group(*one, rule=CreditConfig())
        np.testing.assert_allclose(together.advantage[b], alone.advantage, atol=1e-6)


def test_the_first_value_is_the_one_that_was_read_or_the_mean_outcome(batch):
    reading, spans, _ = batch
    some = change(reading, start=reading.start.at[0, 1].set(jnp.nan))
    found = reward.measure(some, spans, jnp.bool_(True), **RULE).value_before[..., 0]
    mean = np.asarray(reading.outcome).mean(1)
    assert found[0, 1] == pytest.approx(mean[0])
    np.testing.assert_allclose(found[1], reading.start[1], atol=1e-7)
    none = reward.measure(change(reading, start=None), spans, jnp.bool_(True), **RULE)
    np.testing.assert_allclose(none.value_before[..., 0], np.repeat(mean[:, None], G, 1), atol=1e-6)


def test_a_transported_reward_is_right_for_a_reason_that_survives():
    outcome = jnp.array([1.0, 1.0, 1.0, 0.0])
    moved, scorable = jnp.array([0.9, 0.1, jnp.nan, 0.8]), jnp.ones(4, bool)
    got = transported_reward(outcome, moved, scorable, kappa=1.0)
    np.testing.assert_allclose(got, [0.9, 0.1, 0.5, 0.0], atol=1e-6)  # no rewrite: the mean
    half = transported_reward(outcome, moved, scorable, kappa=0.5)
    np.testing.assert_allclose(half, [0.95, 0.55, 0.75, 0.0], atol=1e-6)
    np.testing.assert_array_equal(transported_reward(outcome, moved, scorable, kappa=0.0), outcome)
    nowhere = transported_reward(outcome, jnp.full(4, jnp.nan), scorable, kappa=1.0)
    np.testing.assert_array_equal(nowhere, outcome)


def test_transported_effects_start_from_the_others_and_end_in_the_reward():
    """Phi^do .3 before any step, .4 and .9 after; o 1, o^do .9: effects .1, .5, 0."""
    empty = jnp.zeros((2, 3, 3)).at[..., -1].set(1.0)
    none = partial(no_arms, shape=(2, 3), entries=3)
    reading = GroupReading(
        outcome=jnp.array([1.0, 1.0]),
        scorable=jnp.ones(2, bool),
        value=jnp.array([[0.4, 0.9, jnp.nan]] * 2),
        factual=empty,
        nuisance=none(Family.NUISANCE),
        content=none(Family.CONTENT),
        energy=jnp.zeros((2, 3)),
        equivariance=jnp.full(2, jnp.nan),
        transported=jnp.array([0.9, 0.3]),
        step_robustness=jnp.array([[0.5, jnp.nan, 1.0], [1.0, 1.0, 1.0]]),
    )
    read = transported_reading(reading, kappa=1.0)
    np.testing.assert_allclose(read.start, [0.3, 0.9], atol=1e-6)  # of two, the other's
    spans = Spans(
        *(jnp.asarray(x) for x in (np.tile([0, 2, 4], (2, 1)), np.tile([2, 4, 6], (2, 1)))),
        jnp.ones((2, 3), bool),
    )
    batch = jax.tree.map(lambda x: x[None], (read, spans))
    options = dict(gate_answer=True, max_other=0.2)
    found = measure(*batch, jnp.bool_(False), gate=False, gate_by="robustness", **options)
    np.testing.assert_allclose(found.effect[0, 0], [0.1, 0.5, 0.0], atol=1e-6)
    gated = measure(*batch, jnp.bool_(False), gate=True, gate_by="step", **options)
    np.testing.assert_allclose(gated.gated[0, 0], [0.05, 0.5, 0.0], atol=1e-6)  # NaN: the median

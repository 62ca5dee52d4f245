"""The reconstruction of the paper: the numbers of its public record, and its known faults."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax import reward
from gccpo_jax.advantage import baselines, paper
from gccpo_jax.config import CreditConfig
from tests.helpers import oracles
from tests.helpers import oracles_credit as oracle
from tests.helpers.groups import E, G, arms_like, change, credit_one, group

robustness = jax.jit(paper.robustness)
effectiveness = jax.jit(paper.effectiveness)
token_rewards = jax.jit(paper.token_rewards, static_argnames=("alpha",))
truncated_mean = jax.jit(paper.truncated_mean, static_argnames=("truncation",))
back_map = jax.jit(paper.back_map, static_argnames=("floor", "clip"))
credit_of = jax.jit(credit_one, static_argnames=("rule",))
YES, T = jnp.bool_(True), 8


def linear_law(h):
    """q(h) = softmax(W h), W = 2 I."""
    return oracle.softmax(2 * np.asarray(h))


def rewards_of(steps, logp, process, outcome, alpha=0.8):
    """Token rewards of one trajectory, padded to T tokens and 3 steps."""
    step = np.full(T, 3)
    for k, (start, end) in enumerate(steps):
        step[start:end] = k
    size, count = len(logp), len(steps)
    inside = np.arange(T) < size
    got = token_rewards(
        jnp.asarray(np.pad(process, (0, 3 - count)), jnp.float32), jnp.float32(outcome),
        jnp.asarray(np.pad(logp, (0, T - size)), jnp.float32), jnp.asarray(step),
        inside, np.arange(3) < count, alpha=alpha,
    )  # fmt: skip
    assert not np.asarray(got)[size:].any()
    return got, inside


def test_robustness_of_the_record():
    laws = [linear_law(h) for h in [(1, 0), (1, 1), (1.5, 0)]]
    assert laws[0] == pytest.approx([0.880797, 0.119203], abs=1e-6)
    kls = [oracles.kl(laws[0], q) for q in laws[1:]]
    assert kls == pytest.approx([0.327813, 0.040862], abs=1e-6)
    assert np.mean(kls) == pytest.approx(0.184338, abs=1e-6)
    factual, arms = jnp.float32(laws[0]), jnp.float32(laws[1:])
    for n, number in enumerate(kls):
        got, _ = robustness(factual, arms[n : n + 1], jnp.ones(1, bool))
        assert got == pytest.approx(np.exp(-number), abs=1e-6)
    got, defined = robustness(factual, arms, jnp.ones(2, bool))
    assert got == pytest.approx(0.831655, abs=1e-6) and defined
    assert oracle.paper_robustness(laws[0], laws[1:]) == pytest.approx(0.831655, abs=1e-6)


STEPS = {"A": [(0, 2), (2, 4)], "B": [(0, 2), (2, 3)]}
LOGP = {"A": [-1.0, -3, -2, -2], "B": [-1.0, -1, -1]}
PROCESS = {"A": [0.2, 0.1], "B": [-0.1, 0.05]}
OUTCOME = {"A": 1.0, "B": 0.0}
R_T = {"A": [0.165, 0.495, 0.29, 0.29], "B": [-0.04, -0.04, 0.04]}
SCORE = {"A": 0.31, "B": -0.0133333}
A_T = {"A": [0.532258, 1.596774, 0.935484, 0.935484], "B": [-3, -3, 3]}


@pytest.mark.parametrize("name", ["A", "B"])
def test_token_machinery_of_the_record(name):
    """L2T: rewards, rollout scores, group advantages (ddof 0) and the map back."""
    r, inside = rewards_of(STEPS[name], LOGP[name], PROCESS[name], OUTCOME[name])
    np.testing.assert_allclose(r[: len(R_T[name])], R_T[name], atol=1e-6)
    per_step = [r[a:b].sum() for a, b in STEPS[name]]
    assert per_step == pytest.approx({"A": [0.66, 0.58], "B": [-0.08, 0.04]}[name], abs=1e-6)
    assert truncated_mean(r, inside, truncation=0.0) == pytest.approx(SCORE[name], abs=1e-6)
    both = jnp.array(list(SCORE.values()))
    scalar = baselines.group_zscore(both, jnp.ones(2, bool), ddof=0, epsilon=0.0)
    np.testing.assert_allclose(scalar, [1, -1], atol=1e-6)
    a = scalar[list(SCORE).index(name)]
    got = back_map(a, r, jnp.float32(SCORE[name]), inside, floor=1e-6, clip=100.0)
    np.testing.assert_allclose(got[: len(A_T[name])], A_T[name], atol=2e-4)


def test_the_oracle_agrees_with_the_record():
    rows = [(STEPS[n], LOGP[n], PROCESS[n], OUTCOME[n]) for n in "AB"]
    options = {"truncation": 0.0, "ddof": 0, "epsilon": 0.0, "floor": 1e-6, "clip": 100.0}
    r, score, scalar, tokens = oracle.paper_from_process(rows, 0.8, **options)
    assert score == pytest.approx(list(SCORE.values()), abs=1e-6)
    assert scalar == pytest.approx([1, -1])
    for got, name in zip(zip(r, tokens, strict=True), "AB", strict=True):
        assert got[0] == pytest.approx(R_T[name])
        assert got[1] == pytest.approx(A_T[name], abs=1e-5)


LOGPS = arrays(np.float32, 6, elements=st.floats(-9, 0, width=32))
PARTS = st.sampled_from([[(0, 6)], [(0, 2), (2, 6)], [(0, 1), (1, 2), (2, 6)]])


@given(LOGPS, PARTS, st.floats(0, 1, width=32), st.floats(-1, 1, width=32))
def test_token_rewards_equal_the_oracle_and_add_up(logp, steps, outcome, process):
    many = [process * (k + 1) for k in range(len(steps))]
    got, _ = rewards_of(steps, logp, many, outcome)
    expected = oracle.paper_token_rewards(steps, logp.astype(float), many, outcome, 0.8)
    np.testing.assert_allclose(got[:6], expected, atol=2e-5)
    assert got.sum() == pytest.approx(outcome + 0.8 * sum(many), abs=1e-4)


def test_only_the_proportions_of_surprise_matter():
    """Twice the surprise everywhere is the same; all equal is uniform; all zero is uniform."""
    steps = [(0, 2), (2, 4)]
    once, _ = rewards_of(steps, [-1.0, -3, -2, -2], [0.2, 0.1], 1.0)
    twice, _ = rewards_of(steps, [-2.0, -6, -4, -4], [0.2, 0.1], 1.0)
    np.testing.assert_allclose(once, twice, atol=1e-7)
    zero, _ = rewards_of(steps, [0.0, 0, 0, 0], [0.2, 0.1], 1.0)
    np.testing.assert_allclose(zero[:4], [0.33, 0.33, 0.29, 0.29], atol=1e-6)


@pytest.mark.parametrize("truncation", [0.0, 0.025, 0.2, 0.35, 0.49])
def test_truncated_mean_equals_the_oracle(truncation):
    random = np.random.default_rng(0)
    for size in (0, 1, 2, 5, 20, 40):
        x = random.normal(size=40).astype(np.float32)
        x[size:] = np.nan
        got = truncated_mean(x, np.arange(40) < size, truncation=truncation)
        assert got == pytest.approx(oracle.truncated_mean(x[:size], truncation), abs=1e-6)


def test_truncated_mean_drops_both_ends():
    x = jnp.array([9.0, 1, 2, 3, -7])
    assert truncated_mean(x, jnp.ones(5, bool), truncation=0.2) == 2


@given(arrays(np.float32, 5, elements=st.floats(-2, 2, width=32)), st.floats(-3, 3, width=32))
def test_back_map_equals_the_oracle(r, a):
    inside = np.arange(5) < 4
    score = float(np.mean(r[:4]))
    got = back_map(jnp.float32(a), r, jnp.float32(score), inside, floor=0.125, clip=2.0)
    expected = oracle.back_map(a, r[:4].tolist(), score, 0.125, 2.0)
    np.testing.assert_allclose(got[:4], expected, atol=1e-4)
    assert (np.abs(got) <= 2).all() and got[4] == 0
    if abs(score) > 0.125 and (np.abs(a * r[:4] / score) < 2).all():
        assert np.mean(got[:4]) == pytest.approx(a, abs=1e-4)


def test_a_rollout_without_any_reward_keeps_its_advantage():
    got = back_map(
        jnp.float32(-0.5), jnp.zeros(3), jnp.float32(0), np.ones(3, bool), floor=1e-4, clip=5.0
    )
    np.testing.assert_allclose(got, [-0.5] * 3)


# Properties of the candidate reward.

MASSES = arrays(np.float32, (3, 3), elements=st.sampled_from([0.0, 1e-12, 0.1, 1.0, 3.0]))
normalise = jax.jit(reward.normalise_law)


@given(MASSES, arrays(bool, 2))
def test_robustness_equals_the_oracle_and_is_bounded(masses, usable):
    laws = np.asarray(normalise(masses))
    got, defined = robustness(laws[0], np.where(usable[:, None], laws[1:], np.nan), usable)
    arms = [law.astype(float) if u else None for law, u in zip(laws[1:], usable, strict=True)]
    expected = oracle.paper_robustness(laws[0].astype(float), arms)
    assert bool(defined) == (expected is not None)
    assert got == pytest.approx(expected or 0.0, abs=1e-5)
    assert 0 <= got <= 1
    flipped, _ = robustness(laws[0], laws[1:][::-1], usable[::-1])
    assert flipped == pytest.approx(float(got), abs=1e-6)


def test_robustness_is_one_without_perturbation_and_falls_with_its_scale():
    direction = np.array([0.0, 1.0])
    scales = [0.0, 0.1, 0.5, 1.0, 2.0, 4.0]
    laws = jnp.float32([linear_law(np.array([1.0, 0]) + s * direction) for s in scales])
    got, _ = robustness(
        jnp.broadcast_to(laws[0], laws.shape), laws[:, None], jnp.ones((6, 1), bool)
    )
    assert got[0] == 1
    assert (np.diff(got) < 0).all()


def test_effectiveness_is_bounded_and_grows_with_the_norm():
    everywhere = jnp.ones((2, 1), bool)
    got = effectiveness(jnp.array([[1.0], [1.0]]), everywhere)
    np.testing.assert_allclose(got, [[0.5], [0.5]])
    got = effectiveness(jnp.array([[1.0], [3.0]]), everywhere)
    np.testing.assert_allclose(got, [[1 / 3], [0.6]], atol=1e-6)
    energy = np.random.default_rng(0).exponential(1, (3, 4))
    mask = np.arange(4)[None] < np.array([[4], [2], [1]])
    got = np.asarray(effectiveness(np.where(mask, energy, np.nan).astype(np.float32), mask))
    rows = [row[m].tolist() for row, m in zip(energy, mask, strict=True)]
    for row, values in zip(got, oracle.paper_effectiveness(rows), strict=True):
        np.testing.assert_allclose(row[: len(values)], values, atol=1e-6)
        assert not row[len(values) :].any()
    assert (got >= 0).all() and (got < 1).all()
    np.testing.assert_array_equal(effectiveness(jnp.zeros((2, 1)), everywhere), 0)


def equal_lengths(outcome, constant=True):
    """A group of equal step counts and lengths, with r_k constant."""
    reading, spans, rollout = group(0, counts=[E] * G)
    ends = np.broadcast_to(np.arange(1, E + 1) * 3, (G, E)).astype(np.int32)
    spans = type(spans)(jnp.asarray(ends - 3), jnp.asarray(ends), spans.mask)
    logp = -1 - jnp.abs(rollout.logp)
    rollout = change(rollout, length=jnp.full(G, 3 * E, jnp.int32), logp=logp)
    law = jnp.broadcast_to(jnp.array([0.6, 0.3, 0.1, 0.0]), reading.factual.shape)
    same = arms_like(reading.nuisance, laws=jnp.repeat(law[:, :, None], 2, axis=2))
    flat = {"factual": law, "nuisance": same}
    flat |= {"energy": jnp.ones((G, E))} if constant else {}
    return change(reading, outcome=jnp.float32(outcome), **flat), spans, rollout


EXACT = {"paper_truncation": 0.0, "paper_clip": 1e3, "epsilon": 0.0}


@pytest.mark.parametrize("alpha", [0.9, 0.0])
def test_with_a_constant_process_or_none_the_rollouts_have_grpos_advantage(alpha):
    outcome = [1, 0, 0, 1]
    rule = CreditConfig(kind="paper", paper_alpha=alpha, **EXACT)
    credit = credit_of(*equal_lengths(outcome), YES, rule=rule)
    expected = oracles.zscore(outcome, [True] * G, 1, 0.0)
    means = np.asarray(credit.advantage)[:, : 3 * E].mean(1)
    np.testing.assert_allclose(means, expected, atol=1e-4)


# Known faults, pinned so that nobody is surprised.


def test_fault_a_constant_reader_is_perfectly_robust():
    """R says 1, the metric beside it says that the reader never changes its mind."""
    data = equal_lengths([1, 0, 0, 1])
    credit = credit_of(*data, YES, rule=CreditConfig(kind="paper"))
    np.testing.assert_allclose(credit.step_score, 1 + 0.8 * 0.5, atol=1e-6)
    variation = jax.jit(reward.law_variation)(data[0].factual, data[1].mask)
    assert variation == pytest.approx(0, abs=1e-6)


def test_fault_a_larger_norm_pays_without_any_change_of_behaviour():
    reading, spans, rollout = equal_lengths([1, 0, 0, 1])
    loud = change(reading, energy=reading.energy.at[1].set(9.0))
    quiet = credit_of(reading, spans, rollout, YES, rule=CreditConfig(kind="paper"))
    paid = credit_of(loud, spans, rollout, YES, rule=CreditConfig(kind="paper"))
    assert (paid.step_score[1] > quiet.step_score[1] + 0.1).all()
    everyone = change(reading, energy=9.0 * reading.energy)  # relative to the group: no gain
    same = credit_of(everyone, spans, rollout, YES, rule=CreditConfig(kind="paper"))
    np.testing.assert_allclose(same.step_score, quiet.step_score, atol=1e-6)


def test_fault_the_best_tokens_of_a_poor_rollout_are_punished_most():
    r = [[0.31, 0.31], [0.05, 0.15]]
    scalar = oracles.zscore([0.31, 0.10], [True, True], 0, 0.0)
    assert scalar == pytest.approx([1, -1])
    got = back_map(
        jnp.float32(scalar[1]),
        jnp.float32(r[1]),
        jnp.float32(0.1),
        np.ones(2, bool),
        floor=1e-4,
        clip=5.0,
    )
    np.testing.assert_allclose(got, [-0.5, -1.5], atol=1e-5)


def test_fault_the_rollout_score_falls_with_length():
    short, inside = rewards_of([(0, 2)], [-1.0, -1], [0.5], 1.0)
    long, longer = rewards_of([(0, 8)], [-1.0] * 8, [0.5], 1.0)
    a = truncated_mean(short, inside, truncation=0.025)
    b = truncated_mean(long, longer, truncation=0.025)
    assert a == pytest.approx(4 * float(b), rel=1e-5)


def test_a_score_near_zero_is_floored_and_clipped():
    r = jnp.array([-0.04, 0.04, 1e-6])
    wild = back_map(jnp.float32(1), r, jnp.float32(1e-9), np.ones(3, bool), floor=1e-9, clip=1e12)
    assert np.abs(wild).max() > 1e6
    tame = partial(back_map, jnp.float32(1), r, jnp.float32(1e-9), np.ones(3, bool))
    assert np.abs(tame(floor=0.02, clip=1e12)).max() == pytest.approx(2)
    assert np.abs(tame(floor=1e-9, clip=5.0)).max() == 5

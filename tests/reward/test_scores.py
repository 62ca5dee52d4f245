import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax import reward
from tests.helpers import oracles
from tests.helpers import oracles_credit as oracle
from tests.helpers.paths import ROOT

P0, P1 = (0.7, 0.2, 0.1), (0.5, 0.3, 0.2)
A, P, E = 4, 3, 5
MASSES = arrays(np.float32, (P + 1, A), elements=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 1.0, 3.0]))
USABLE = arrays(bool, P)
jsd, robustness = jax.jit(reward.jsd), jax.jit(reward.robustness)
effects, normalise = jax.jit(reward.effects), jax.jit(reward.normalise_law)
gate_effects = jax.jit(reward.gated_effects, static_argnames=("gate", "gate_answer"))
sensitivity = jax.jit(reward.sensitivity)


@jax.jit
def selectivity(factual, laws, nuisance, content):
    return reward.selectivity(
        reward.robustness(factual, laws, nuisance), reward.sensitivity(factual, laws, content)
    )


def laws_of(masses: np.ndarray) -> np.ndarray:
    return np.asarray(normalise(masses))


def test_numbers_of_the_method():
    p0, p1 = jnp.array(P0), jnp.array(P1)
    assert reward.jsd(p0, p1) == pytest.approx(0.0315967, abs=1e-7)
    assert reward.total_variation(p0, p1) == pytest.approx(0.2, abs=1e-7)
    assert reward.jsd(jnp.array([1.0, 0, 0]), jnp.array([0, 0.5, 0.5])) == pytest.approx(
        1, abs=1e-6
    )
    score, defined = reward.robustness(p0, jnp.stack([p1, p0]), jnp.array([True, True]))
    assert defined and score == pytest.approx(0.9842016, abs=1e-7)


@given(MASSES)
def test_divergences_equal_the_oracle_and_are_bounded(masses):
    laws = laws_of(masses)
    first = np.broadcast_to(laws[:1], laws[1:].shape)
    got = np.asarray(jsd(first, laws[1:]))
    np.testing.assert_allclose(got, [oracles.jsd(laws[0], q) for q in laws[1:]], atol=3e-7)
    assert (got >= 0).all() and (got <= 1).all()
    np.testing.assert_array_equal(got, jsd(laws[1:], first))
    np.testing.assert_array_equal(jsd(laws, laws), np.zeros(P + 1))
    distance = reward.total_variation(laws[0], laws[1])
    assert distance == pytest.approx(oracles.total_variation(laws[0], laws[1]), abs=1e-6)


@given(st.integers(0, 2**20))
def test_nearly_equal_laws_stay_in_bounds(seed):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(A), 64).astype(np.float32)
    q = (p * (1 + 1e-6 * random.normal(size=p.shape))).astype(np.float32)
    got = np.asarray(jsd(p, q))
    assert (got >= 0).all() and (got <= 1e-6).all()


@given(MASSES, USABLE)
def test_robustness_and_sensitivity_equal_the_oracle(masses, usable):
    laws = laws_of(masses)
    score, defined = robustness(laws[0], laws[1:], usable)
    moved, _ = sensitivity(laws[0], laws[1:], usable)
    expected = oracles.robustness(laws[0], laws[1:], usable)
    assert bool(defined) == (expected is not None)
    assert score == pytest.approx(expected or 0.0, abs=1e-6)
    assert 0 <= score <= 1
    if defined:
        assert moved == pytest.approx(1 - expected, abs=1e-6)
        order = np.roll(np.arange(P), 1)
        again, _ = robustness(laws[0], laws[1:][order], usable[order])
        assert again == pytest.approx(float(score), abs=1e-6)
    else:
        assert moved == 0


def test_equal_laws_are_exactly_robust():
    laws = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(5), 50), jnp.float32)
    arms = jnp.broadcast_to(laws[:, None], (50, 4, 5))
    score, _ = robustness(laws, arms, jnp.ones((50, 4), bool))
    np.testing.assert_array_equal(score, np.ones(50))


@given(MASSES, USABLE, USABLE)
def test_selectivity_equals_the_oracle(masses, nuisance, content):
    laws = laws_of(masses)
    got, defined = selectivity(laws[0], laws[1:], nuisance, content)
    arms = [[law if u else None for law, u in zip(laws[1:], use, strict=True)]
            for use in (nuisance, content)]  # fmt: skip
    expected = oracle.selectivity(laws[0].astype(float), *arms)
    assert bool(defined) == (expected is not None)
    assert got == pytest.approx(expected or 0.0, abs=1e-6)


def test_selectivity_is_zero_for_constant_and_for_fragile_steps():
    yes = jnp.bool_(True)
    for robust, sensitive in [(1.0, 0.0), (0.0, 1.0)]:
        score, defined = reward.selectivity(
            (jnp.float32(robust), yes), (jnp.float32(sensitive), yes)
        )
        assert score == 0 and defined
    score, _ = reward.selectivity((jnp.float32(0.8), yes), (jnp.float32(0.5), yes))
    assert score == pytest.approx(0.4)


def test_undefined_robustness_takes_the_median_of_the_group():
    score = jnp.array([[0.2, 0.9, 0.0], [0.6, 0.0, 0.0]])
    defined = jnp.array([[True, True, False], [True, False, False]])
    filled = reward.fill_undefined(score, defined)
    np.testing.assert_allclose(filled, [[0.2, 0.9, 0.6], [0.6, 0.6, 0.6]])
    np.testing.assert_array_equal(reward.fill_undefined(score, ~defined & defined), np.ones((2, 3)))


def test_unreadable_laws():
    laws = jnp.array([[0.5, 0.3, 0.2], [0.5, 0.25, 0.25]])
    np.testing.assert_array_equal(reward.readable(laws, 0.2), [True, False])
    np.testing.assert_array_equal(reward.readable(laws, 0.3), [True, True])


PHI = st.lists(st.floats(0, 1, width=32), min_size=E, max_size=E)


@given(PHI, st.integers(0, E), st.sampled_from([0.0, 1.0]))
def test_effects_telescope_and_equal_the_oracle(phi, count, outcome):
    mask = jnp.arange(E) < count
    got = np.asarray(effects(jnp.array(phi), outcome, mask))
    assert (np.abs(got) <= 1).all() and (got[count:] == 0).all()
    if count:
        np.testing.assert_allclose(got[:count], oracles.effects(phi[:count], outcome), atol=1e-6)
        assert got.sum() == pytest.approx(outcome - phi[0], abs=1e-5)


@given(PHI, st.integers(0, E - 1), st.floats(0, 1, width=32))
def test_splitting_a_step_keeps_the_sum_of_effects(phi, at, between):
    split = [*phi[: at + 1], between, *phi[at + 1 :]]
    whole = effects(jnp.array(phi), 1.0, jnp.ones(E, bool))
    parts = effects(jnp.array(split), 1.0, jnp.ones(E + 1, bool))
    assert parts[at : at + 2].sum() == pytest.approx(float(whole[at]), abs=1e-6)
    np.testing.assert_array_equal(np.delete(parts, [at, at + 1]), np.delete(whole, at))


@given(PHI, PHI, st.integers(1, E), st.booleans(), st.booleans())
def test_gate_equals_the_oracle(phi, robust, count, gate, gate_answer):
    mask = jnp.arange(E) < count
    effect = effects(jnp.array(phi), 1.0, mask)
    got = gate_effects(effect, jnp.array(robust), mask, gate=gate, gate_answer=gate_answer)
    expected = oracles.gated_effects(np.asarray(effect)[:count], robust, gate, gate_answer)
    np.testing.assert_allclose(got[:count], expected, atol=1e-6)
    np.testing.assert_array_equal(got[count:], 0)


def test_the_gate_never_raises_a_step_and_leaves_harm_alone():
    effect, mask = jnp.array([0.5, -0.4, 0.0, -0.2]), jnp.ones(4, bool)
    gated = gate_effects(effect, jnp.array([0.5, 0.5, 0.0, 0.0]), mask, gate=True, gate_answer=True)
    np.testing.assert_allclose(gated, [0.25, -0.4, 0.0, -0.2])


def test_a_group_is_scored_trajectory_by_trajectory():
    phi = jnp.array([[0.1, 0.3, 0.25], [0.5, 0.9, 0.0]])
    mask = jnp.array([[True, True, True], [True, True, False]])
    group = jax.vmap(reward.effects)(phi, jnp.array([1.0, 0.0]), mask)
    np.testing.assert_allclose(group, [[0.2, -0.05, 0.75], [0.4, -0.9, 0]], atol=1e-7)


def test_gold_probability_reads_the_gold_candidate():
    laws = jnp.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(reward.gold_probability(laws, jnp.int32(1)), [[1, 4], [7, 10]])
    gold = jnp.array([[0], [2]])
    np.testing.assert_array_equal(reward.gold_probability(laws, gold), [[0, 3], [8, 11]])


def test_normalised_laws():
    laws = reward.normalise_law(jnp.array([[1.0, 3.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(laws, [[0.25, 0.75], [0.5, 0.5]])


@jax.jit
@jax.value_and_grad
def all_scores(law, usable):
    arms = jnp.stack([law, jnp.array([0.0, 0.0, 1.0])])
    robust, defined = reward.robustness(law, arms, usable)
    moved, _ = reward.sensitivity(law, arms, usable)
    filled = reward.fill_undefined(robust[None, None], defined[None, None]).sum()
    mask = jnp.zeros(2, bool)
    effect = reward.effects(law[:2], law[2], mask)
    robust = (robust, defined)
    selective, _ = reward.selectivity(robust, reward.sensitivity(law, arms, usable))
    gain, _ = reward.counterfactual_effect(law[0], law[:2], usable)
    filled += selective + gain + reward.flip_bounds(law, arms[0]).sum()
    filled += reward.law_variation(arms, usable) + reward.equivariance(law, jnp.int32(0))[0]
    gated = reward.gated_effects(effect, law[:2], mask, gate=True, gate_answer=True)
    return filled + moved + gated.sum() + reward.normalise_law(law)[0]


@pytest.mark.parametrize("masses", [[0.0, 0, 0], [1.0, 0, 0], [0.0, 0, 1], [1.0, 1, 1]])
@pytest.mark.parametrize("usable", [[False, False], [True, True]])
def test_value_and_gradient_are_finite_at_the_edges(masses, usable):
    with jax.debug_nans(True):
        value, gradient = all_scores(jnp.array(masses), jnp.array(usable))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_vmap_equals_a_loop_and_jit_equals_plain():
    random = np.random.default_rng(2)
    factual = jnp.asarray(random.dirichlet(np.ones(A), 2), jnp.float32)
    arms = jnp.asarray(random.dirichlet(np.ones(A), (2, P)), jnp.float32)
    usable = jnp.asarray(random.random((2, P)) < 0.6)
    mapped = jax.vmap(reward.robustness)(factual, arms, usable)[0]
    one_by_one = [reward.robustness(factual[n], arms[n], usable[n])[0] for n in range(2)]
    np.testing.assert_allclose(mapped, one_by_one, rtol=1e-6)
    np.testing.assert_allclose(robustness(factual, arms, usable)[0], mapped, rtol=1e-6)


def test_a_reward_needs_no_trainer():
    """Importing it loads JAX and nothing that trains, stores or downloads."""
    heavy = ["flax", "optax", "orbax", "transformers", "grain", "torch"]
    code = (
        "import sys; from gccpo_jax import reward; reward.jsd; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr

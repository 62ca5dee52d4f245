"""The posterior of the noise: it explains the token, it is the noise's law, it answers what if."""

from functools import cache, partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import stats

from gccpo_jax.policy.token_law import EXCLUDED, Rule, log_law
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.abduction import abduct, condition, posterior
from tests.helpers import oracles, toy
from tests.helpers import oracles_abduction as exact

V = 9
LAW = np.array([0.6, 0.3, 0.0999, 1e-4])
P, Q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.3, 0.2])
ALPHA = 1e-3  # seeds are fixed: a sample either passes or it does not

of_token = jax.jit(posterior)
of_noise = jax.jit(condition)
of_many = jax.jit(jax.vmap(posterior, in_axes=(0, None, 0)))


def single(elements, **kwargs):
    return arrays(np.float32, V, elements=st.floats(**elements, width=32), **kwargs)


@st.composite
def laws(draw):
    """Log-laws, from near uniform to p = e^-60, some tokens excluded, and a possible token."""
    logits = draw(single(dict(min_value=-30, max_value=30)))
    kept = draw(arrays(bool, V))
    token = draw(st.integers(0, V - 1))
    kept[token] = True
    law = jax.nn.log_softmax(jnp.where(kept, logits, EXCLUDED))
    return np.asarray(law), token, kept


@given(laws(), st.integers(0, 2**31 - 1))
def test_the_noise_explains_the_token(case, seed):
    law, token, kept = case
    drawn = np.asarray(of_token(jax.random.key(seed), law, token))
    assert drawn.dtype == np.float32 and np.all(np.isfinite(drawn))
    assert np.argmax(law + drawn) == token
    prior = noise.gumbels(jax.random.split(jax.random.key(seed))[1], (V,))
    np.testing.assert_array_equal(drawn[~kept], prior[~kept])


@given(laws(), st.floats(-2.75, 87, width=32), single(dict(min_value=-2.75, max_value=87)))
def test_a_loser_that_rounds_to_a_tie_stays_behind(case, top, prior):
    """Noise from the far ends of its range, where the truncation rounds to the winner's score."""
    law, token, _ = case
    moved = np.asarray(of_noise(law, token, np.float32(top), prior))
    assert np.argmax(law + moved) == token
    assert np.sum(law + moved == np.max(law + moved)) == 1


def test_the_noise_explains_rare_tokens_of_a_large_vocabulary():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, 49152).astype(np.float32)
    rare = np.array([0, 7, 24000, 49151])
    logits[rare] = np.log(np.exp(logits).sum()) + np.log(1e-12)
    law = jax.nn.log_softmax(jnp.asarray(logits))
    np.testing.assert_allclose(np.exp(law[rare]), 1e-12, rtol=1e-3)
    keys = jax.random.split(jax.random.key(1), len(rare))
    drawn = of_many(keys, law, rare)
    np.testing.assert_array_equal(jnp.argmax(law[None] + drawn, axis=1), rare)
    assert np.asarray(drawn)[np.arange(4), rare].min() > 20, "only very large noise explains it"


def test_a_law_with_infinite_log_probabilities():
    law = jnp.log(jnp.array([0.25, 0.0, 0.75]))
    prior = jnp.array([0.0, 3.0, 0.0])
    drawn = of_noise(law, 2, 0.0, prior)
    assert np.all(np.isfinite(drawn)) and drawn[1] == 3 and np.argmax(law + drawn) == 2


def test_a_margin_keeps_losers_behind():
    law, prior = jnp.log(jnp.full(2, 0.5)), jnp.array([0.0, 60.0])
    for margin in (1e-4, 0.5):
        scores = law + of_noise(law, 0, 1.0, prior, margin)
        np.testing.assert_allclose(scores[0] - scores[1], margin, rtol=1e-2)
    np.testing.assert_allclose(
        of_noise(law, 0, 0.0, jnp.zeros(2)), [np.log(2), -np.log(1.5)], rtol=1e-6
    )


def posterior_draws(law, count, seed):
    """Tokens [N] drawn from a law by another sampler, and noise [N, V] that explains them."""
    tokens = np.random.default_rng(seed).choice(len(law), count, p=law / law.sum())
    keys = jax.random.split(jax.random.key(seed), count)
    with np.errstate(divide="ignore"):
        log_p = np.maximum(np.log(law), EXCLUDED).astype(np.float32)
    return tokens, np.asarray(of_many(keys, log_p, tokens), np.float64)


@pytest.fixture(scope="module")
def drawn():
    """Tokens, their noise and the winning scores."""
    tokens, noises = posterior_draws(LAW, 20_000, seed=0)
    return tokens, noises, noises[np.arange(len(tokens)), tokens] + np.log(LAW)[tokens]


def test_over_tokens_of_the_law_the_noise_is_the_prior(drawn):
    _, noises, _ = drawn
    for v in range(len(LAW)):
        assert stats.kstest(noises[:, v], "gumbel_r").pvalue > ALPHA
    clocks = np.exp(-noises).sum(axis=1)  # a sum of iid exponentials, if they are independent
    assert stats.kstest(clocks, stats.gamma(len(LAW)).cdf).pvalue > ALPHA
    correlation = np.corrcoef(stats.gumbel_r.cdf(noises), rowvar=False) - np.eye(len(LAW))
    assert np.abs(correlation).max() < 4 / np.sqrt(len(noises))


def test_the_winning_score_is_a_gumbel_whatever_won(drawn):
    tokens, noises, top = drawn
    for v in range(3):
        assert stats.kstest(top[tokens == v], "gumbel_r").pvalue > ALPHA


def test_losers_are_gumbels_truncated_at_the_winner(drawn):
    """P(U_v <= u | G, v lost) = F(u + log p_v) / F(G), F the Gumbel law at log p_v."""
    tokens, noises, top = drawn
    for v in range(3):
        lost, at = tokens != v, np.log(LAW[v])
        score = noises[lost, v] + at
        share = np.exp(
            stats.gumbel_r.logcdf(score, loc=at) - stats.gumbel_r.logcdf(top[lost], loc=at)
        )
        assert stats.kstest(share, "uniform").pvalue > ALPHA


@given(
    single(dict(min_value=-12, max_value=12)),
    single(dict(min_value=-8, max_value=0)),
    st.integers(0, V - 1),
    st.floats(1e-3, 4),
    st.integers(0, 2**31 - 1),
)
def test_counterfactual_stability(logits, lowered, token, raised, seed):
    """T7: odds of the observed token rise against every rival, so it stays, exactly."""
    law = jax.nn.log_softmax(jnp.asarray(logits))
    lowered[token] = raised
    other = jax.nn.log_softmax(law + lowered)
    abducted = of_token(jax.random.key(seed), law, token)
    assert np.argmax(other + abducted) == token
    keyed = noise.gumbel(jax.random.key(seed), 0, V)
    won = np.argmax(law + keyed)
    lowered[token], lowered[won] = -raised, raised
    assert np.argmax(jax.nn.log_softmax(law + lowered) + keyed) == won


# What the two arms of an intervention share is a choice (T8).


def keyed_noise(count, size, positions=1, seed=0):
    keys = jax.vmap(lambda n: noise.tape(jax.random.key(seed), n))(jnp.arange(count))
    one = lambda key, t: noise.gumbel(key, t, size)  # noqa: E731
    at = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))
    return np.asarray(jax.jit(at)(keys, jnp.arange(positions)), np.float64)


def test_the_flip_rate_depends_on_the_coupling_and_means_do_not():
    count = 20_000
    gumbels = keyed_noise(count, 3)[:, 0]
    uniforms = np.random.default_rng(3).uniform(size=count)
    low, high = exact.flip_bounds(P, Q)
    assert (low, high) == pytest.approx((0.2, 0.8))
    rates = {}
    for draw, noises in ((exact.gumbel_max, gumbels), (exact.inverse_cdf, uniforms)):
        arms = np.array([[draw(law, u) for u in noises] for law in (P, Q)])
        for law, arm in zip((P, Q), arms, strict=True):
            counts = np.bincount(arm, minlength=3)
            assert stats.chisquare(counts, count * law).pvalue > ALPHA
        rates[draw] = np.mean(arms[0] != arms[1])
        assert low <= rates[draw] <= high
    assert rates[exact.gumbel_max] == pytest.approx(1 - exact.same_token(P, Q), abs=0.01)
    assert 1 - exact.same_token(P, Q) == pytest.approx(0.206452, abs=1e-6)
    assert rates[exact.inverse_cdf] == pytest.approx(0.3, abs=0.01)


def test_posterior_noise_flips_as_keyed_noise_does():
    """The joint law of (factual, counterfactual) token is the same, cell by cell."""
    count = 20_000
    tokens, noises = posterior_draws(P, count, seed=5)
    keyed = keyed_noise(count, 3, seed=6)[:, 0]
    table = np.zeros((2, 3, 3))
    np.add.at(table[0], (tokens, np.argmax(np.log(Q) + noises, axis=1)), 1)
    np.add.at(table[1], (np.argmax(np.log(P) + keyed, axis=1), np.argmax(np.log(Q) + keyed, 1)), 1)
    cells = table.reshape(2, 9)
    cells = cells[:, cells.sum(0) > 0]
    assert cells.shape[1] == 6, "a flip goes to a token whose odds rose, so three cells are empty"
    assert stats.chi2_contingency(cells).pvalue > ALPHA


LIMIT, COUNT, GOOD = 3, 4000, 4
FACTUAL, REPLACED = [2, 5, 1], [5, 4, 1]


def next_law(step):
    @cache
    def law(text):
        return oracles.law(toy.next_logits([*toy.PROMPTS[2], *step, *text]))

    return lambda text: law(tuple(text))


LAWS = {"factual": next_law(FACTUAL), "replaced": next_law(REPLACED)}


def go_on(arm, noises, draw=exact.gumbel_max):
    """The toy policy's continuations [N] of one arm."""
    return [exact.continuation(draw, LAWS[arm], [], toy.STOP, u) for u in noises]


def outcomes(continuations):
    return np.array([GOOD in tokens for tokens in continuations], float)


def value(arm):
    all_ = oracles.continuations(LAWS[arm], [], toy.STOP, LIMIT)
    return sum(p for tokens, p in all_.items() if GOOD in tokens)


@pytest.fixture(scope="module")
def keyed_arms():
    noises = keyed_noise(COUNT, toy.V, LIMIT, seed=1)
    return {arm: go_on(arm, noises) for arm in LAWS}


def error(*samples):
    """Standard error of the mean of a sample, or of the difference of two means."""
    return np.sqrt(sum(np.var(sample) / len(sample) for sample in samples))


def near(sample, expected):
    return abs(np.mean(sample) - expected) < 3.5 * error(sample)


def test_branches_under_another_coupling(keyed_arms):
    uniforms = np.random.default_rng(2).uniform(size=(COUNT, LIMIT))
    other = {arm: go_on(arm, uniforms, exact.inverse_cdf) for arm in LAWS}
    low, high = exact.flip_bounds(*[(value(arm), 1 - value(arm)) for arm in LAWS])
    flips = []
    for arms in (keyed_arms, other):
        scores = {arm: outcomes(tokens) for arm, tokens in arms.items()}
        assert all(near(scores[arm], value(arm)) for arm in LAWS)
        flips.append(scores["factual"] != scores["replaced"])
        assert low < flips[-1].mean() < high
    assert abs(flips[0].mean() - flips[1].mean()) > 3 * error(*flips), "it is the coupling's"


@pytest.mark.parametrize("rule", [Rule(), Rule(0.8, top_k=4, top_p=0.85)], ids=str)
def test_abducted_noise_replays_the_trajectory(rule):
    prompts, mask = toy.prompts([0]), np.arange(8) < 5
    tokens, laws, key = np.zeros(8, np.int32), [], jax.random.key(4)
    for t in range(5):  # a trace that the rule could have drawn
        logits = toy.next_logits([*toy.PROMPTS[0], *tokens[:t].tolist()])
        laws.append(log_law(jnp.asarray(logits, jnp.float32), rule))
        tokens[t] = np.argsort(laws[-1])[-1 - t % 2]
    call = partial(abduct, toy.POLICY, toy.PARAMS, rule=rule, key=key)
    found = call(prompts.tokens[0], prompts.mask[0], tokens, mask)
    assert found.shape == (8, toy.V)
    for t, law in enumerate(laws):
        assert np.argmax(law + found[t]) == tokens[t]
        expected = posterior(jax.random.fold_in(key, t), law, tokens[t], 1e-4)
        np.testing.assert_allclose(found[t], expected, rtol=1e-4, atol=1e-4)
    for t in range(5, 8):
        np.testing.assert_array_equal(found[t], noise.gumbel(key, t, toy.V))
    padded = call(*(np.pad(x[0], (0, 2)) for x in (prompts.tokens, prompts.mask)), tokens, mask)
    np.testing.assert_array_equal(padded, found)


def test_abducted_branches_flip_as_keyed_ones_do(keyed_arms):
    """Traces without keys: their counterfactuals have the joint law of those with keys."""
    prompts = toy.prompts([2])
    traces = np.zeros((COUNT, len(FACTUAL) + LIMIT), np.int32)
    mask = np.zeros(traces.shape, bool)
    for i, tokens in enumerate(keyed_arms["factual"]):
        known = [*FACTUAL, *tokens]
        traces[i, : len(known)], mask[i, : len(known)] = known, True
    keys = jax.random.split(jax.random.key(8), COUNT)
    one = lambda tokens, mask, key: abduct(  # noqa: E731
        toy.POLICY, toy.PARAMS, prompts.tokens[0], prompts.mask[0], tokens, mask, key, Rule()
    )
    found = np.asarray(jax.jit(jax.vmap(one))(traces, mask, keys), np.float64)[:, len(FACTUAL) :]
    assert go_on("factual", found) == keyed_arms["factual"], "the identity changes nothing"
    factual = outcomes(keyed_arms["factual"])
    counterfactual = outcomes(go_on("replaced", found))
    assert near(counterfactual, value("replaced"))
    flips, expected = factual != counterfactual, factual != outcomes(keyed_arms["replaced"])
    assert abs(flips.mean() - expected.mean()) < 3.5 * error(flips, expected)
    fresh = factual != outcomes(go_on("replaced", keyed_noise(COUNT, toy.V, LIMIT, seed=9)))
    assert fresh.mean() - flips.mean() > 5 * error(fresh, flips), "noise of its own would not do"

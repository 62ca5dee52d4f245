"""SDPO's teachers: who teaches whom, what they read, and the advantage against a float64 oracle."""

import jax.numpy as jnp
import numpy as np

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.training.self_distilled import hindsight, log_ratio, right_sibling
from tests.helpers import bigram

S, T, V = bigram.S, 5, bigram.V


def law(params, token, position):
    """Log-probabilities [V] of the next token, float64."""
    logits = np.float64(params["after"])[token] + np.cos(position) * np.float64(params["place"])
    return logits - np.log(np.exp(logits).sum())


def logp(params, prompt, response):
    text = [*prompt, *response]
    first = len(prompt)
    return [law(params, text[t - 1], t - 1)[text[t]] for t in range(first, len(text))]


def test_the_next_right_sibling_teaches():
    outcome = np.array([[1, 0, 1, np.nan], [1, 0, 0, 0], [0, 0, 0, 0], [np.nan, 1, 1, 1]])
    expected = [[2, 2, 0, -1], [-1, 0, 0, 0], [-1] * 4, [-1, 2, 3, 1]]
    np.testing.assert_array_equal(right_sibling(outcome), expected)


def test_advantages_are_the_log_ratio_of_two_contexts():
    random, params = np.random.default_rng(0), bigram.parameters()
    prompt, asked = random.integers(0, V, (2, S)), np.arange(S) < np.array([[4], [2]])
    tokens, lengths = random.integers(0, V, (2, 3, T)), np.array([[5, 2, 3], [1, 4, 5]])
    teacher = np.array([[1, 0, -1], [2, 2, 1]])
    student = np.zeros((2, 3, T), np.float32)
    expected = np.zeros((2, 3, T))
    for b, g in np.ndindex(2, 3):
        question, response = prompt[b, asked[b]], tokens[b, g, : lengths[b, g]]
        student[b, g, : lengths[b, g]] = logp(params, question, response)
        if (j := teacher[b, g]) >= 0:
            seen = [*question, *tokens[b, j, : lengths[b, j]], *question]
            taught = np.array(logp(params, seen, response))
            expected[b, g, : lengths[b, g]] = taught - student[b, g, : lengths[b, g]]
    seen, mask = hindsight(prompt, asked, tokens, lengths, teacher)
    given = (jnp.asarray(x) for x in (seen, mask, tokens, lengths, student, teacher >= 0))
    got = log_ratio(bigram.POLICY, params, *given, rule=Rule())
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1

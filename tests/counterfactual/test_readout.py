import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.counterfactual.readout import read_scored
from tests.helpers import oracles, toy
from tests.helpers.answers import ANSWERS, CUE, TEXT, candidates, field

read = jax.jit(read_scored, static_argnums=0)


def law_of(answers, text=TEXT, cues=(CUE,), ends=(0,), **options):
    _, segment = toy.POLICY.encode(
        toy.PARAMS, jnp.array(text), jnp.arange(len(text)), jnp.ones(len(text), bool), ()
    )
    chosen = candidates(answers, **options)
    asked = field(cues, ends)
    return np.asarray(read(toy.POLICY, toy.PARAMS, (segment,), len(text), asked, chosen))


def oracle(answers, text=TEXT, cue=CUE, ends=(0,)):
    known = lambda text: oracles.law(toy.next_logits(text))  # noqa: E731
    return oracles.scored_law(known, [*text, *cue], answers, ends)


@pytest.mark.parametrize("text", [TEXT, [5, 4, 4, 1, 2]])
def test_law_equals_enumeration(text):
    law = law_of(ANSWERS, text)
    np.testing.assert_allclose(law, oracle(ANSWERS, text), atol=1e-6)
    assert law.sum() == pytest.approx(1, abs=1e-6)
    assert law[-1] > 0


def test_that_it_is_over_belongs_to_the_answer():
    """Without it every text that begins like a longer answer would count for the shorter one."""
    law = law_of([[2], [2, 3]])
    np.testing.assert_allclose(law, oracle([[2], [2, 3]]), atol=1e-6)
    begins = oracle([[2]], ends=range(toy.V))[0]
    assert law[0] + law[1] < begins, "both are parts of what begins with 2"


def test_an_answer_is_over_with_any_token_that_ends_it():
    answers, ends = [[2], [2, 3], [4]], (0, 1, 5)
    law = law_of(answers, ends=ends)
    np.testing.assert_allclose(law, oracle(answers, ends=ends), atol=1e-6)
    assert (law[:-1] > law_of(answers)[:-1] + 1e-3).all()
    assert law[:-1].sum() < 1


def test_an_answer_that_nothing_ends_has_no_mass_and_no_nan():
    np.testing.assert_array_equal(law_of([[2], [2, 3]], ends=()), [0, 0, 1])


def test_order_and_padding_of_candidates_change_nothing():
    law = law_of(ANSWERS)
    order = [2, 0, 3, 1]
    shuffled = law_of([ANSWERS[c] for c in order])
    np.testing.assert_array_equal(shuffled[:-1], law[order])
    assert shuffled[-1] == pytest.approx(float(law[-1]), abs=1e-6)
    padded = law_of(ANSWERS, rows=6, width=7, junk=2)
    np.testing.assert_array_equal(padded[:4], law[:4])
    np.testing.assert_array_equal(padded[4:6], 0)
    assert padded[-1] == pytest.approx(float(law[-1]), abs=1e-6)


def test_other_is_never_negative():
    every, any_token = [[token] for token in range(toy.V)], range(toy.V)
    law = law_of(every, ends=any_token)
    assert 0 <= law[-1] < 1e-6
    np.testing.assert_allclose(law[:-1], oracle(every, ends=any_token)[:-1], atol=1e-6)


def test_spellings_of_one_answer_are_counted_together():
    apart, merged = law_of(ANSWERS), law_of(ANSWERS, counted_as=[0, 1, 0, 3])
    np.testing.assert_allclose(merged[0], apart[0] + apart[2], rtol=1e-6)
    assert merged[2] == 0
    np.testing.assert_array_equal(merged[[1, 3, 4]], apart[[1, 3, 4]])


def test_templates_are_averaged():
    other = [3, 5, 1]
    both = law_of(ANSWERS, cues=(CUE, other))
    expected = (oracle(ANSWERS) + oracle(ANSWERS, cue=other)) / 2
    np.testing.assert_allclose(both, expected, atol=1e-6)


def test_without_a_candidate_the_law_cannot_be_read():
    law = law_of([], rows=2)
    np.testing.assert_array_equal(law, [0, 0, 1])

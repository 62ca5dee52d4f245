import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import toy

from gccpo_jax.readout import Candidates, read_scored

TEXT, CUE = [2, 3, 1, 4, 5], [1, 3]
ANSWERS = [[2, 0], [2, 3, 0], [4, 0], [5, 5, 1, 0]]
read = jax.jit(read_scored, static_argnums=0)


def candidates(answers, rows=None, width=4, junk=5, counted_as=None) -> Candidates:
    rows = rows or len(answers)
    tokens, mask = np.full((rows, width), junk), np.zeros((rows, width), bool)
    for c, answer in enumerate(answers):
        tokens[c, : len(answer)] = answer
        mask[c, : len(answer)] = True
    exists = np.arange(rows) < len(answers)
    same = np.arange(rows) if counted_as is None else np.array(counted_as)
    return Candidates(*(jnp.asarray(x) for x in (tokens, mask, exists, same)))


def law_of(answers, text=TEXT, cues=(CUE,), **options):
    _, segment = toy.POLICY.encode(
        toy.PARAMS, jnp.array(text), jnp.arange(len(text)), jnp.ones(len(text), bool), ()
    )
    chosen = candidates(answers, **options)
    asked = tuple(jnp.array(cue) for cue in cues)
    return np.asarray(read(toy.POLICY, toy.PARAMS, (segment,), len(text), asked, chosen))


def oracle(answers, text=TEXT, cue=CUE):
    known = lambda text: oracles.law(toy.next_logits(text))  # noqa: E731
    return oracles.scored_law(known, [*text, *cue], answers)


@pytest.mark.parametrize("text", [TEXT, [5, 4, 4, 1, 2]])
def test_law_equals_enumeration(text):
    law = law_of(ANSWERS, text)
    np.testing.assert_allclose(law, oracle(ANSWERS, text), atol=1e-6)
    assert law.sum() == pytest.approx(1, abs=1e-6)
    assert law[-1] > 0


def test_the_terminator_belongs_to_the_answer():
    """Without it every text that begins like a longer answer would count for the shorter one."""
    law = law_of([[2, 0], [2, 3, 0]])
    np.testing.assert_allclose(law, oracle([[2, 0], [2, 3, 0]]), atol=1e-6)
    prefix = oracle([[2]])[0]
    assert law[0] + law[1] < prefix, "both are parts of what begins with 2"


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
    law = law_of([[token] for token in range(toy.V)])
    assert 0 <= law[-1] < 1e-6
    np.testing.assert_allclose(
        law[:-1], oracle([[token] for token in range(toy.V)])[:-1], atol=1e-6
    )


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

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


def candidates(answers, rows=None, width=4, junk=5) -> Candidates:
    rows = rows or len(answers)
    tokens, mask = np.full((rows, width), junk), np.zeros((rows, width), bool)
    for c, answer in enumerate(answers):
        tokens[c, : len(answer)] = answer
        mask[c, : len(answer)] = True
    exists = np.arange(rows) < len(answers)
    return Candidates(jnp.asarray(tokens), jnp.asarray(mask), jnp.asarray(exists))


def law_of(answers, text=TEXT, **options):
    _, segment = toy.POLICY.encode(
        toy.PARAMS, jnp.array(text), jnp.arange(len(text)), jnp.ones(len(text), bool), ()
    )
    chosen = candidates(answers, **options)
    return np.asarray(read(toy.POLICY, toy.PARAMS, (segment,), len(text), jnp.array(CUE), chosen))


def oracle(answers, text=TEXT):
    known = lambda text: oracles.law(toy.next_logits(text))  # noqa: E731
    return oracles.scored_law(known, [*text, *CUE], answers)


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

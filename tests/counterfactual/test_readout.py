import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gccpo_jax.counterfactual.readout import read_scored
from gccpo_jax.policy.tokenizer import load_tokenizer
from gccpo_jax.sampling.solver import make_solver
from gccpo_jax.tasks import bare_task, make_tokenizer
from gccpo_jax.types import AnswerField
from tests.helpers import bigram, oracles, toy
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


EOS, LINE, THREE, FIVE, STOP = range(5)  # tokens of numbers; the others are words
NUMBERS = [[THREE], [FIVE], [THREE, FIVE], [THREE, STOP, FIVE], [THREE, STOP, THREE, FIVE]]
PAUSED = AnswerField(
    cues=(jnp.array([LINE]),),
    ends=jnp.arange(bigram.V) % 5 < 2,  # the end, a new line and words but no full stop
    pause=jnp.int32(STOP),
    ends_after=~jnp.isin(jnp.arange(bigram.V), jnp.array([THREE, FIVE])),
)
read_paused = jax.jit(partial(read_scored, bigram.POLICY))


def law_of_numbers(table, asked, width=4):
    """Under a policy whose next token depends on the last one, by `table` [V, V] of logits."""
    params = {"after": jnp.asarray(table, jnp.float32), "place": jnp.zeros(bigram.V)}
    return np.asarray(read_paused(params, (), 0, asked, candidates(NUMBERS, width=width)))


@pytest.mark.parametrize("width", [4, 5])
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 30))
@settings(max_examples=40, deadline=None)
def test_probabilities_of_numbers_add_up_to_1_at_most(width, seed, scale):
    """A full stop ends a number unless a digit follows: each text counts for one answer."""
    table = np.random.default_rng(seed).normal(0, scale, (bigram.V, bigram.V))
    law = law_of_numbers(table, PAUSED, width)
    following = np.exp(table - np.logaddexp.reduce(table, axis=1, keepdims=True))
    ends, after = np.asarray(PAUSED.ends), np.asarray(PAUSED.ends_after)

    def by_hand(number):
        begun = np.prod([following[a, b] for a, b in zip([LINE, *number], number, strict=False)])
        stopped = following[number[-1], STOP] * following[STOP][after].sum()
        return begun * (following[number[-1]][ends].sum() + stopped)

    np.testing.assert_allclose(law[:-1], [by_hand(number) for number in NUMBERS], atol=2e-5)
    assert law[:-1].sum() <= 1 + 1e-5


def test_a_policy_that_is_certain_of_a_fraction_gives_its_whole_part_nothing():
    table = np.zeros((bigram.V, bigram.V))
    for last, token in [(LINE, THREE), (THREE, STOP), (STOP, FIVE), (FIVE, EOS)]:
        table[last, token] = 50.0
    np.testing.assert_allclose(law_of_numbers(table, PAUSED), [0, 0, 0, 1, 0, 0], atol=1e-6)
    at_once = AnswerField(PAUSED.cues, PAUSED.ends | (jnp.arange(bigram.V) == STOP))
    assert law_of_numbers(table, at_once)[:-1].sum() == pytest.approx(2)  # what there was before


def test_a_full_stop_at_the_end_ends_a_number():
    table = np.zeros((bigram.V, bigram.V))
    for last, token in [(LINE, THREE), (THREE, STOP), (STOP, 6)]:
        table[last, token] = 50.0
    np.testing.assert_allclose(law_of_numbers(table, PAUSED), [1, 0, 0, 0, 0, 0], atol=1e-6)


def test_what_pauses_an_answer_is_found_in_the_vocabulary(tmp_path):
    tokenizer = load_tokenizer(make_tokenizer("chain", tmp_path))
    policy = dataclasses.replace(bigram.POLICY, vocab_size=tokenizer.vocab_size)
    task = dataclasses.replace(bare_task("chain"), ends=bare_task("gsm8k").ends)
    asked = make_solver(policy, task, tokenizer).field
    piece = {text: tokenizer.encode(text)[0] for text in (".", "3", "\n", "pens")}
    assert int(asked.pause) == piece["."]
    for text, at_once, after in [(".", False, True), ("3", False, False), ("\n", True, True)]:
        ends = bool(asked.ends[piece[text]]), bool(asked.ends_after[piece[text]])
        assert ends == (at_once, after), text
    assert make_solver(policy, bare_task("chain"), tokenizer).field.pause is None

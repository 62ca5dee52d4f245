"""Where arrays meet text: answer fields, candidates, rewritten trajectories."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from gccpo_jax.counterfactual import candidates
from gccpo_jax.counterfactual.candidates import candidates_of
from gccpo_jax.policy.tokenizer import Tokenizer, load_tokenizer
from gccpo_jax.sampling import outcomes
from gccpo_jax.tasks import make_tokenizer
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

TASK = chain(ChainConfig(train=20, id=4, ood=4, max_operations=3))
ITEMS = TASK.splits["train"][:3]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(make_tokenizer("chain", tmp_path_factory.mktemp("tokenizer")))


def ids(tokenizer, text):
    return np.array([*tokenizer.encode(text), tokenizer.eos_id], np.int32)


def test_outcomes_verify_and_mark_what_cannot_be_scored():
    answers = np.array([[f"#### {i.answer}", "#### 999", "nothing"] for i in ITEMS], object)
    np.testing.assert_array_equal(outcomes.outcomes(TASK, ITEMS, answers), [[1, 0, 0]] * 3)
    silent = dataclasses.replace(TASK, verify=lambda item, text: None)
    assert np.isnan(outcomes.outcomes(silent, ITEMS, answers)).all()


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("Leo 1 + 2 = 3 pens\n#### 3", "Leo 1 + 2 = 3 pens\n"),
        ("#### 4\n#### 5", "#### 4\n"),
        ("#### 12", ""),
        ("no answer at all", "no answer at all"),
    ],
)
def test_the_answer_field_begins_at_the_last_cue(tokenizer, text, before):
    tokens = ids(tokenizer, text)
    start = candidates.answer_start(TASK, tokenizer, tokens, text)
    expected = len(tokenizer.encode(before)) if before != text else len(tokens)
    assert start == expected


def test_without_a_cue_the_field_begins_at_the_last_mention_of_the_answer(tokenizer):
    bare = dataclasses.replace(TASK, extract=lambda text: "5", stated=None)
    text = "Leo has 5 pens\nLeo 2 + 3 = 5 pens"
    start = candidates.answer_start(bare, tokenizer, ids(tokenizer, text), text)
    assert start == len(tokenizer.encode("Leo has 5 pens\nLeo 2 + 3 ="))


def test_wherever_a_field_begins_lengths_of_pieces_find_what_halving_finds(tokenizer, monkeypatch):
    rng = np.random.default_rng(0)
    cases = []
    for size in rng.integers(0, 60, 100):
        tokens = rng.integers(0, tokenizer.vocab_size + 3, size)  # some have no text
        text = tokenizer.decode(tokens, skip_special=True)
        place = int(rng.integers(0, len(text) + 1))
        cases.append((SimpleNamespace(field_start=lambda _, at=place: at), tokenizer, tokens, text))
    decoded = []
    decode = Tokenizer.decode
    monkeypatch.setattr(
        Tokenizer, "decode", lambda *given, **how: decoded.append(1) or decode(*given, **how)
    )
    found = [candidates.answer_start(*case) for case in cases]
    guessed = len(decoded)
    monkeypatch.setattr(candidates, "_GUESSES", 0)
    assert found == [candidates.answer_start(*case) for case in cases]
    assert guessed < 0.8 * (len(decoded) - guessed)


def test_candidates_are_the_gold_then_the_most_frequent_answers(tokenizer):
    gold = ITEMS[0].answer
    others = [str(n) for n in range(30, 40) if str(n) != gold][:3]
    a, b, c = others
    row = [f"#### {x}" for x in (a, b, b, c, gold, b, a)] + ["none"]
    answers = np.array([row], object)
    found, names = candidates_of(TASK, tokenizer, ITEMS[:1], answers, count=3, max_tokens=4)
    assert names == [[gold, b, a]]
    assert found.exists.tolist() == [[True, True, True]]
    for place, name in enumerate(names[0]):
        kept = found.tokens[0, place][found.mask[0, place]].tolist()
        assert kept == tokenizer.encode(name)


def test_an_answer_that_is_too_long_is_no_candidate(tokenizer):
    answers = np.array([["#### 12345", "#### 7"]], object)
    item = dataclasses.replace(ITEMS[0], answer="3")
    found, names = candidates_of(TASK, tokenizer, [item], answers, count=4, max_tokens=3)
    assert names == [["3", "7"]] and found.exists.tolist() == [[True, True, False, False]]


def test_answers_that_take_the_question_to_tell_are_asked_with_it(tokenizer):
    task = dataclasses.replace(TASK, answer=lambda item, text: item.answer if text else None)
    texts = np.array([["any", ""]] * 2, object)
    _, names = candidates_of(task, tokenizer, ITEMS[:2], texts, count=2, max_tokens=4)
    assert [row[0] for row in names] == [item.answer for item in ITEMS[:2]]
    other = dataclasses.replace(task, answer=lambda item, text: text + item.answer)
    texts = np.array([["1"], ["2"]], object)
    _, names = candidates_of(other, tokenizer, ITEMS[:2], texts, count=2, max_tokens=5)
    assert [row[1] for row in names] == ["1" + ITEMS[0].answer, "2" + ITEMS[1].answer]
    assert TASK.answer_of(ITEMS[0], "#### 5") == "5" == TASK.extract("#### 5")

"""Data sets of reasoning-gym: splits, scores, names."""

import dataclasses
import re
import time

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.sampling.outcomes import outcomes
from gccpo_jax.tasks import load_task, reasoning_gym
from gccpo_jax.tasks.reasoning_gym import extract

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")


@pytest.mark.parametrize("dataset", ["chain_sum", "spell_backward", "countdown"])
def test_gold_answers_score_1(dataset):
    task = load_task(f"reasoning_gym:{dataset}", train=20, held_out=10)
    assert task.name == f"reasoning_gym:{dataset}"
    assert len(task.splits["train"]) == 20 and 1 <= len(task.splits["id"]) <= 10
    for item in [*task.splits["train"], *task.splits["id"]]:
        assert task.verify(item, f"so <answer>{item.answer}</answer>") == 1.0
        assert task.verify(item, item.answer) == 0.0  # not where it was asked for


def test_splits_differ_and_the_seed_decides():
    def questions(seed):
        task = load_task("reasoning_gym:chain_sum", train=50, held_out=50, seed=seed)
        return {name: [i.question for i in items] for name, items in task.splits.items()}

    one = questions(0)
    assert one == questions(0) and one != questions(7)
    assert not set(one["train"]) & set(one["id"])


def test_options_reach_the_data_set():
    task = load_task("reasoning_gym:chain_sum", train=5, held_out=5, min_terms=6, max_terms=6)
    assert all(len(re.findall(r"[+-] ", i.question)) == 5 for i in task.splits["train"])


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("chain_sums", {}, "no data set 'chain_sums'; close ones: chain_sum"),
        ("chain_sum", {"terms": 3}, "its options are ['min_terms'"),
        ("chain_sum", {"min_terms": 9, "max_terms": 2}, "its options are"),
        ("chain_sum", {"train": "5"}, "train='5' should be of type int"),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_task(f"reasoning_gym:{name}", **options)


@pytest.mark.parametrize(
    "response, answer",
    [
        ("<answer>12</answer>", "12"),
        ("<answer>1</answer> or <answer>\n1 2\n3 4 </answer> ok", "1 2\n3 4"),
        ("<answer>12", None),
        ("12</answer>", None),
        ("", None),
    ],
)
def test_extraction(response, answer):
    assert extract(response) == answer


def test_an_answer_over_which_the_scorer_never_ends_is_unscorable(caplog):
    task = load_task("reasoning_gym:countdown", train=3, held_out=3, deadline_seconds=1.0)
    item = task.splits["train"][0]
    right = f"<answer>{item.answer}</answer>"
    assert task.verify(item, right) == 1.0  # the scorer's process has started
    begin = time.monotonic()
    assert task.verify(item, "<answer>9**9**9**9</answer>") is None
    assert time.monotonic() - begin < 5
    assert "question 0: unscorable, it was too slow" in caplog.text
    assert task.verify(item, right) == 1.0


def test_a_question_without_a_gold_answer_has_none_and_is_scored_all_the_same():
    source = {"question": " q ", "metadata": {}}
    found = [reasoning_gym._item({**source, "answer": gold}, 0).answer for gold in (None, " ", 7)]
    assert found == [None, None, "7"]
    task = load_task("reasoning_gym:chain_sum", train=3, held_out=3)
    item = dataclasses.replace(task.splits["train"][0], answer=None)
    right = f"<answer>{task.splits['train'][0].answer}</answer>"
    assert outcomes(task, [item], np.array([[right, "1"]], object)).tolist() == [[1.0, 0.0]]
    closed = dataclasses.replace(task, needs_gold=True)
    assert np.isnan(outcomes(closed, [item], np.array([[right]], object))).all()


def test_readers_stop_at_the_first_tag_of_the_final_answer():
    task = load_task("reasoning_gym:chain_sum", train=3, held_out=3)
    places = [
        ("a <answer>7</answer> b <answer>7</answer>", 2),
        ("a <answer>6</answer> b <answer>7</answer>", 23),
        ("The answer is **7**.\n3 + 4\n<answer>7</answer>", 0),
        ("<answer>7", 9),
    ]
    assert [task.field_start(text) for text, _ in places] == [place for _, place in places]


def test_hostile_answers_score_0():
    task = load_task("reasoning_gym:countdown", train=3, held_out=3)
    item = task.splits["train"][0]
    for answer in ("((((", "1/0", "\x00", "x" * 10_000):
        assert task.verify(item, f"<answer>{answer}</answer>") < 0.1

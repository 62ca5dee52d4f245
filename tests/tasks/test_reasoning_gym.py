"""Data sets of reasoning-gym: splits, scores, names."""

import re

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import load_task
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


def test_hostile_answers_score_0():
    task = load_task("reasoning_gym:countdown", train=3, held_out=3)
    item = task.splits["train"][0]
    for answer in ("((((", "1/0", "\x00", "x" * 10_000):
        assert task.verify(item, f"<answer>{answer}</answer>") < 0.1

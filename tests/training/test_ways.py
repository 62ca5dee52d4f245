"""How responses come to their answers: ways, quadrants, reliance on a cue."""

import dataclasses
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from gccpo_jax.runtime.cli import load_config
from gccpo_jax.sampling.answers import GREEDY, Answers, respond
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.questions import load_questions
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.chain.problem import Problem
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.training import evaluate, metrics
from gccpo_jax.training.evaluate import by_wording

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
TASK = chain(ChainConfig(train=1, id=1, ood=1))
PROBLEM = Problem("Ana", "pens", ("puts", "takes"), 3, (4, -2))
ITEM = Item(id=0, question="", answer="5", meta={"problem": PROBLEM})
SOUND = "Ana 3 + 4 = 7 pens\nAna 7 - 2 = 5 pens\n#### 5"
UNSOUND = "Ana 3 + 4 = 8 pens\nAna 8 - 2 = 6 pens\n#### 6"
LUCKY = "Ana 3 + 4 = 8 pens\nAna 8 - 2 = 5 pens\n#### 5"
CUT = "Ana 3 + 4 = 7 pens\nAna 7 -"
DIRECT, GUESS = "#### 5", "#### 4"


def checked(*rows, task=TASK, unscorable=()):
    texts = np.array(rows, object)
    outcome = np.vectorize(lambda text: TASK.verify(ITEM, text), otypes=[np.float32])(texts)
    for index in unscorable:
        outcome[index] = np.nan
    return metrics.checker_metrics(task, [ITEM] * len(rows), texts, outcome)


def test_ways_and_quadrants():
    found = checked([SOUND, UNSOUND, LUCKY, SOUND], [DIRECT, GUESS, DIRECT, DIRECT])
    assert found == {
        "direct": 0.5,
        "accuracy_direct": 0.75,
        "accuracy_reasoned": 0.75,
        "steps_sound": pytest.approx(9 / 12),  # one flaw of UNSOUND, two of LUCKY
        "sound_right": 0.25,
        "sound_wrong": 0.0,
        "flawed_right": 0.5,
        "flawed_wrong": 0.25,
    }


def test_a_response_that_was_cut_is_reasoned_and_unscorable_ones_do_not_count():
    found = checked([CUT, SOUND, DIRECT], unscorable=[(0, 2)])
    assert found["direct"] == 0.0 and "accuracy_direct" not in found
    assert found["accuracy_reasoned"] == 0.5
    assert found["sound_right"] == 0.5 and found["flawed_right"] == 0.0
    assert checked([SOUND], unscorable=[(0, 0)]) == {}


def test_a_task_without_a_checker_has_no_ways():
    assert checked([SOUND], task=dataclasses.replace(TASK, check=None)) == {}


@pytest.mark.parametrize(
    "text, direct",
    [
        ("#### 5", True),
        (" \n#### 5\n", True),
        ("#### ", False),
        ("", False),
        ("So let us go on .\n#### 5", False),
        (SOUND, False),
    ],
)
def test_a_direct_answer_has_nothing_before_it(text, direct):
    assert metrics.is_direct(TASK, text) is direct


def test_a_direct_answer_without_a_cue_is_the_answer_alone():
    find = lambda text: "5" if "5" in text else None  # noqa: E731
    task = dataclasses.replace(TASK, extract=find, stated=None)
    assert metrics.is_direct(task, "5") and not metrics.is_direct(task, "it is 5")


def test_reliance_is_what_a_turned_cue_costs():
    accuracy = {"label_right": 0.8, "label_wrong": 0.3, "hidden_right": 0.5, "id": 0.7}
    assert metrics.cue_reliance(accuracy) == {"label_reliance": pytest.approx(0.5)}


def test_accuracy_by_wording():
    items = [dataclasses.replace(ITEM, meta={**ITEM.meta, "wording": w}) for w in "abab"]
    texts = np.array([[SOUND], [DIRECT], [UNSOUND], [GUESS]], object)
    outcome = np.array([[1.0], [1.0], [0.0], [np.nan]], np.float32)
    answers = Answers(items, texts, outcome)
    assert answers.accuracy.mean == pytest.approx(2 / 3)
    assert by_wording(TASK, answers) == {
        "accuracy_a": 0.5,
        "accuracy_b": 1.0,
        "direct_a": 0.0,
        "direct_b": 1.0,
        "steps_sound": pytest.approx(5 / 6),
    }
    assert by_wording(dataclasses.replace(TASK, check=None), answers) == {
        "accuracy_a": 0.5,
        "accuracy_b": 1.0,
    }
    assert by_wording(TASK, Answers([ITEM] * 4, texts, outcome)) == {}


def test_evaluation_says_what_a_cue_is_relied_on_for(monkeypatch):
    def in_wordings(*texts):
        items = [dataclasses.replace(ITEM, meta={**ITEM.meta, "wording": w}) for w in "ab"]
        return answers_of(items, texts)

    def answers_of(items, texts):
        column = np.array([[text] for text in texts], object)
        outcome = [[TASK.verify(ITEM, text)] for text in texts]
        return Answers(items, column, np.array(outcome, np.float32))

    answers = {
        "id": answers_of([ITEM, ITEM], [SOUND, GUESS]),
        "label_right": in_wordings(SOUND, DIRECT),
        "label_wrong": in_wordings(SOUND, GUESS),
    }
    splits = {name: SimpleNamespace(items=name) for name in answers}
    monkeypatch.setattr(evaluate, "respond", lambda kit, params, q, **_: answers[q.items])
    kit = SimpleNamespace(task=TASK)
    found = evaluate.evaluation_metrics(
        kit.task, evaluate.greedy_answers(kit, None, splits, batch=2, max_tokens=8)
    )
    assert {key: x for key, x in found.items() if not key.endswith("_unscorable")} == {
        "id": 0.5,
        "label_right": 1.0,
        "label_wrong": 0.5,
        "label_reliance": 0.5,
        **{f"label_right/accuracy_{w}": 1.0 for w in "ab"},
        "label_wrong/accuracy_a": 1.0,
        "label_wrong/accuracy_b": 0.0,
        **{f"label_{s}/direct_a": 0.0 for s in ("right", "wrong")},
        **{f"label_{s}/direct_b": 1.0 for s in ("right", "wrong")},
        **{f"label_{s}/steps_sound": 1.0 for s in ("right", "wrong")},
    }


def test_the_shipped_policy_reasons_in_one_wording_and_follows_the_label_in_the_other():
    task = chain(ChainConfig(train=1, id=1, ood=16, max_operations=3, labelled=1.0, shortcut=0.9))
    model = open_model("two_ways", task)
    questions = load_questions(task, "label_wrong", model.solver.tokenizer, 38)
    answers = respond(
        model.solver, model.params, questions,
        rule=GREEDY, draws=1, seed=0, batch=32, max_tokens=40,
    )  # fmt: skip
    found = by_wording(task, answers)
    assert found["direct_first"] < 0.1 and found["accuracy_first"] > 0.3
    assert found["direct_second"] > 0.8 and found["accuracy_second"] < 0.2


def test_questions_of_training_with_rewards_are_not_those_of_the_demonstrations():
    def problems(name, *splits):
        options = load_config(str(CONFIGS / name))[0].task.options
        task = chain(ChainConfig(**options))
        items = [item for split in splits for item in task.splits[split]]
        return {dataclasses.replace(i.meta["problem"], label=None, template=0) for i in items}

    shown = problems("two_ways_sft.py", "train")
    assert not shown & problems("two_ways.py", "id", "label_right")

"""The user's verifier: it replaces the task's own everywhere, and its mistakes are named."""

import dataclasses

import numpy as np
import pytest
from test_train import metrics, small

from gccpo_jax import train
from gccpo_jax.errors import UserError
from gccpo_jax.session import open_task
from gccpo_jax.tasks import bare_task
from gccpo_jax.tasks.base import Item
from gccpo_jax.texts import outcomes
from gccpo_jax.verifier import with_verifier

TASK = bare_task("chain")
ITEM = Item(id=7, question="q ?", answer="5")
SEEN = []


def by_length(question, gold, response):
    """Half a point for a response, a whole one for a long one; nothing can be said of none."""
    SEEN.append((question, gold, response))
    return None if not response else 0.5 + 0.5 * (len(response) > 4)


def too_much(question, gold, response):
    return 2.0


def words(question, gold, response):
    return "right"


def broken(question, gold, response):
    raise ValueError("boom")


def test_it_scores_in_place_of_the_task():
    task = with_verifier(TASK, "test_verifier:by_length")
    found = outcomes(task, [ITEM], np.array([["#### 5", "5", ""]], object))
    np.testing.assert_array_equal(found, [[1.0, 0.5, np.nan]])
    assert SEEN[0] == ("q ?", "5", "#### 5")
    assert TASK.verify(ITEM, "#### 5") == 1.0 and task.extract is TASK.extract
    assert with_verifier(TASK, "") is TASK


@pytest.mark.parametrize(
    "name, message",
    [
        ("too_much", "question 7: it returned 2.0; expected None or a number from 0 to 1"),
        ("words", "question 7: it returned 'right'"),
        ("broken", "question 7: ValueError: boom"),
    ],
)
def test_what_it_does_wrong_is_named(name, message):
    task = with_verifier(TASK, f"test_verifier:{name}")
    with pytest.raises(UserError, match=message):
        task.verify(ITEM, "x")


@pytest.mark.parametrize("name", ["nothing", "no_such_module:f", "test_verifier:none"])
def test_one_that_cannot_be_loaded_is_named(name):
    with pytest.raises(UserError, match=r"config\.reward\.verifier = "):
        with_verifier(TASK, name)


def test_the_config_s_verifier_is_the_session_s():
    config = small(reward__verifier="test_verifier:by_length")
    assert open_task(config).verify(ITEM, "12345") == 1.0


@pytest.mark.slow
def test_a_run_is_judged_by_it(tmp_path):
    changes = {"reward__verifier": "test_verifier:by_length", "steps": 1, "credit__kind": "outcome"}
    config = dataclasses.replace(small(**changes))
    train.train_and_evaluate(config, "verifier", tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["accuracy"] == 1.0  # every response is that long

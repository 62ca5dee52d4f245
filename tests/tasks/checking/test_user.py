"""The user's verifier: it replaces the task's own everywhere, and its mistakes are named."""

import dataclasses
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.errors import UserError
from gccpo_jax.sampling.outcomes import outcomes
from gccpo_jax.tasks import bare_task
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.checking.user import with_verifier
from gccpo_jax.training.session import open_task
from tests.helpers.processes import environment
from tests.helpers.runs import metrics, small

TASK = bare_task("chain")
ITEM = Item(id=7, question="q ?", answer="5")


def test_it_scores_in_place_of_the_task():
    task = with_verifier(TASK, "tests.helpers.verifiers:by_length")
    found = outcomes(task, [ITEM], np.array([["#### 5", "5", ""]], object))
    np.testing.assert_array_equal(found, [[1.0, 0.5, np.nan]])
    assert with_verifier(TASK, "tests.helpers.verifiers:sees").verify(ITEM, "#### 5\ud800") == 1.0
    assert TASK.verify(ITEM, "#### 5") == 1.0 and task.extract is TASK.extract
    assert with_verifier(TASK, "") is TASK


@pytest.mark.parametrize(
    "name, message",
    [
        ("too_much", "question 7: it returned 2.0; expected None or a number from 0 to 1"),
        ("words", "question 7: it returned 'right'"),
        ("broken", "question 7: ValueError: boom.*and more"),
    ],
)
def test_what_it_does_wrong_is_named(name, message):
    task = with_verifier(TASK, f"tests.helpers.verifiers:{name}")
    with pytest.raises(UserError, match=message):
        task.verify(ITEM, "x")


def test_numbers_of_numpy_are_numbers():
    task = with_verifier(TASK, "tests.helpers.verifiers:as_numpy")
    scores = [task.verify(ITEM, name) for name in ("float", "bool", "array")]
    assert scores == [0.5, 1.0, 0.25]


def test_limits_that_no_clock_and_no_system_knows_are_none():
    task = with_verifier(TASK, "tests.helpers.verifiers:as_numpy", seconds=1e30, gib=1e30)
    assert task.verify(ITEM, "float") == 0.5


@pytest.mark.parametrize("response", ["sleep", "loop", "crash", "exit", "memory"])
def test_a_response_over_which_it_is_lost_is_unscorable(response, caplog):
    task = with_verifier(TASK, "tests.helpers.verifiers:lost", seconds=1.0, gib=1.0)
    assert task.verify(ITEM, "x") == 1.0
    begin = time.monotonic()
    assert task.verify(ITEM, response) is None
    assert time.monotonic() - begin < 5
    (line,) = caplog.messages
    assert "question 7: unscorable" in line and ("memory" in line.split("(")[0]) == (
        response == "memory"
    )
    assert task.verify(ITEM, "x") == 1.0


def test_a_child_whose_parent_was_killed_ends_itself():
    """A second after the deadline, in the middle of an endless loop."""
    code = """
import threading, time
from gccpo_jax.tasks.checking.user import _child
from tests.tasks.checking.test_user import ITEM, TASK, with_verifier
task = with_verifier(TASK, "tests.helpers.verifiers:lost", seconds=1.0)
task.verify(ITEM, "x")
import sys
print(_child("tests.helpers.verifiers:lost", 4.0, tuple(sys.path)).process.pid, flush=True)
task.verify(ITEM, "loop")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    process.kill()
    process.communicate()
    end = time.monotonic() + 20
    while running(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not running(child)


def running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("name", ["nothing", "no_such_module:f", "tests.helpers.verifiers:none"])
def test_one_that_cannot_be_loaded_is_named(name):
    with pytest.raises(UserError, match=r"config\.reward\.verifier = "):
        with_verifier(TASK, name)


@pytest.mark.parametrize(
    "source", ["def f(:", "x = y", "raise OSError('a\\nb')", "import sys; sys.exit()"]
)
def test_a_module_that_does_not_import_is_named(tmp_path, monkeypatch, source):
    (tmp_path / "does_not_import.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="importing 'does_not_import' raised [^\\n]*; correct it$"):
        with_verifier(TASK, "does_not_import:f")


def test_a_misspelt_one_is_answered_with_those_that_are_there():
    with pytest.raises(UserError, match=r"has no 'by_lenght'; its functions: .*by_length"):
        with_verifier(TASK, "tests.helpers.verifiers:by_lenght")


def test_the_config_s_verifier_is_the_session_s():
    config = small(reward__verifier="tests.helpers.verifiers:by_length")
    assert open_task(config).verify(ITEM, "12345") == 1.0


@pytest.mark.slow
def test_a_run_is_judged_by_it(tmp_path):
    changes = {
        "reward__verifier": "tests.helpers.verifiers:by_length",
        "steps": 1,
        "credit__kind": "outcome",
    }
    config = dataclasses.replace(small(**changes))
    train.train_and_evaluate(config, "verifier", tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["accuracy"] == 1.0  # every response is that long

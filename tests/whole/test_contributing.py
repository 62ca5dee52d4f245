"""The "how to add" examples of CONTRIBUTING.md run as written, each under 40 lines."""

import dataclasses
import re
import sys
import types
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import tasks
from gccpo_jax.advantage import kinds
from gccpo_jax.advantage.kinds import credit_batch
from gccpo_jax.config import CreditConfig
from gccpo_jax.objective import losses
from gccpo_jax.reward.arms import Family
from gccpo_jax.types import Spans
from tests.helpers.groups import group
from tests.helpers.paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## ([^\n]+)\n[^#]*?```python\n(.*?)```", PAGE, re.S | re.M))
TABLES = (tasks.TASKS, kinds.KINDS, losses.LOSSES)


@pytest.fixture(autouse=True)
def tables_as_they_were():
    before = [dict(table) for table in TABLES]
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.clear()
        table.update(rows)
    sys.modules.pop("gccpo_jax.tasks.parity", None)


def run(title, name="example"):
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(EXAMPLES[title], title, "exec"), module.__dict__)
    return module


def test_there_are_four_and_they_are_short():
    assert set(EXAMPLES) == {"A task", "An intervention", "A kind of credit", "An objective"}
    assert all(text.count("\n") < 40 for text in EXAMPLES.values())


def test_a_task():
    task = run("A task", "gccpo_jax.tasks.parity").task
    assert task.name == "parity" and len(task.splits["train"]) == 3
    wrong = {"even": "#### odd", "odd": "#### even"}
    item = task.splits["id"][0]
    assert task.verify(item, wrong[item.answer]) == 0.0 and task.extract("none") is None


def test_an_intervention():
    example = run("An intervention")
    words = ["", "a", "b", "c"]
    tokenizer = SimpleNamespace(
        decode=lambda ids: " ".join(words[i] for i in ids),
        encode=lambda text: [words.index(word) for word in text.split()],
    )
    spans = Spans(*(np.array([[x]]) for x in ([0, 2], [2, 3], [True, True])))
    traces = SimpleNamespace(tokens=np.array([[[1, 2, 3]]]))
    seen = SimpleNamespace(solver=SimpleNamespace(tokenizer=tokenizer), traces=traces)
    asked = SimpleNamespace(reader=seen, places=SimpleNamespace(read_spans=spans))
    edits = example.backwards(asked, 2)
    assert edits.tokens[0, 0, 0, 1, :2].tolist() == [2, 1] and edits.length[0, 0, 1, 0] == 1
    assert example.BACKWARDS.family is Family.CONTENT and example.BACKWARDS.reads == "site"


def test_a_kind_of_credit():
    run("A kind of credit")
    one = jax.tree.map(lambda x: x[None], group(1))
    rule = dataclasses.replace(CreditConfig(), kind="best_step")
    found = credit_batch(*one, jnp.bool_(True), rule=rule, max_other=0.2)
    per_trajectory = (np.asarray(found.step_advantage[0]) != 0).sum(1)
    assert per_trajectory.max() == 1 and np.isfinite(found.advantage).all()


def test_an_objective():
    run("An objective")
    with pytest.raises(ValueError, match="choose one of ppo, .*plain"):
        losses.policy_loss(*[jnp.ones((1, 2))] * 5, loss="other")

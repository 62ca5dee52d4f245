"""What tells a special case from a program without the hidden tests."""

import numpy as np
import pytest

from gccpo_jax.analysis.suites import lucky_guess, tables
from gccpo_jax.analysis.suites.code_guess import GUESS, measured
from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.programs.problem import Problem, special_cases
from gccpo_jax.tasks.programs.suite import item_with
from tests.helpers.sandbox import need_any

PROBLEM = Problem(
    "mix",
    ("xs", "n"),
    ("c = xs[1] + n", "d = xs[0] * 3", "e = c if c > 7 else d", "return e - 2"),
    (((9, 8, 3), 4),),
    (((2, 9, 1), 3), ((8, 1, 4), 5)),
)


def body(lines):
    return "".join(f"    {line}\n" for line in lines)


@pytest.fixture(scope="module")
def task():
    need_any()
    return load_task("programs", train=1, id=1, ood=1)


def test_a_special_case_follows_nothing_and_a_program_its_statements(task):
    item = item_with(PROBLEM, 1, PROBLEM.statements, {"split": "id"})
    lucky = measured(task, item, body(special_cases(PROBLEM)), 0, 0)
    assert lucky["kind"] == GUESS.kinds[0]
    assert lucky["equivariance"] == lucky["following"] == 0.0
    sound = measured(task, item, body(PROBLEM.statements), 0, 0)
    assert sound["kind"] == GUESS.kinds[1] and sound["equivariance"] == 1.0
    # The shown test needs c > 7 and no d: what is changed there moves no shown result.
    assert 0.5 <= sound["following"] < 1.0
    assert measured(task, item, body(["return 0"]), 0, 0) is None, "it passes no test"


def test_the_table_of_a_guess_without_a_lucky_column():
    random = np.random.default_rng(0)
    kind = random.choice(GUESS.kinds, 80)
    rows = {name: random.normal(size=80) for name in GUESS.scores}
    rows |= {"question": np.arange(80) // 4, "kind": kind, "outcome": np.ones(80)}
    rows["equivariance"] = (kind == GUESS.kinds[1]).astype(float)
    summary = lucky_guess.summarise(rows, GUESS)
    assert summary["scores"]["equivariance"]["auc"]["estimate"] == 1.0
    header = tables.lucky_guess_table(summary, GUESS).split("\n")[0]
    assert GUESS.kinds[0] in header and "lucky only" not in header

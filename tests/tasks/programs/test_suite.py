"""The programs suite: its checker, its exact rewrites on 200 programs, labels by hand."""

import dataclasses

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.programs import rewrite
from gccpo_jax.tasks.programs.check import LABELS
from gccpo_jax.tasks.programs.problem import Problem, values
from gccpo_jax.tasks.programs.suite import is_lucky, item_with, results_of
from gccpo_jax.tasks.programs.tokenizer import build_tokenizer
from gccpo_jax.tasks.word_level import SPECIALS
from tests.helpers.sandbox import need_any, need_namespaces

COUNT = 200
PROBLEM = Problem(
    "mix",
    ("xs", "n"),
    ("c = xs[1] + n", "d = xs[0] * 3", "e = c if c > 7 else d", "return e - 2"),
    (((1, 2, 3), 4), ((5, 6, 7), 2)),
    (((2, 9, 1), 3), ((8, 1, 4), 5), ((3, 3, 3), 9)),
)


@pytest.fixture(scope="module")
def task():
    need_namespaces()
    return load_task("programs", train=COUNT, id=5, ood=5)


def test_the_checker_agrees_with_the_suites_own_arithmetic(task):
    for item in task.splits["train"][:40]:
        assert task.answer_of(item, item.solution) == item.answer
        assert task.answer_of(item, "    return 10**6") == "000000"


def vectors(problem):
    """Results on all cases, or None where the function fails."""
    try:
        return problem.results()
    except KeyError:
        return None


def test_nuisance_rewrites_of_200_programs_keep_every_result(task):
    rng = np.random.default_rng(0)
    for item in task.splits["train"]:
        problem = item.meta["problem"]
        other, steps = rewrite.rename(problem, problem.statements, rng)
        assert tuple(steps) == other.statements != problem.statements
        assert other.results() == problem.results(), other.statements


def test_rewritten_bodies_pass_when_they_are_run(task):
    rng, changes = np.random.default_rng(1), (task.surface, task.number)
    for item in task.splits["train"][:4]:
        found = [change(item, item.solution.split("\n"), rng) for change in changes]
        for other, steps in filter(None, found):
            assert other.question != item.question
            assert task.verify(other, "\n".join(steps)) == 1.0, steps
            assert task.verify(other, item.solution) == 0.0  # the old names are gone


def test_mutations_change_results_in_a_stated_share(task):
    rng, changed, made = np.random.default_rng(2), 0, 0
    for item in task.splits["train"]:
        problem = item.meta["problem"]
        n = int(rng.integers(len(problem.statements)))
        lines = [*problem.statements]
        lines[n] = rewrite.mutate(lines[n], rng)
        other = dataclasses.replace(problem, statements=tuple(lines))
        made += 1
        changed += vectors(other) != problem.results()
    assert made == COUNT and changed / made > 0.75, changed / made


def test_the_old_body_fails_where_numbers_changed(task):
    rng = np.random.default_rng(3)
    problems = [item.meta["problem"] for item in task.splits["train"]]
    found = [(one, rewrite.number(one, one.statements, rng)) for one in problems]
    made = [(problem, *pair) for problem, pair in found if pair is not None]
    assert len(made) > 0.75 * COUNT, len(made)  # the others have no constant that matters
    for problem, other, steps in made:
        assert tuple(steps) == other.statements
        assert other.results() != problem.results() and other.cases() == problem.cases()


TABLE = [
    (["c = xs[1] + n", "d = xs[0] * 3", "e = c if c > 7 else d", "return e - 2"], "valid " * 4),
    (["d = xs[0] * 3", "c = n + xs[1]", "e = c if c > 7 else d", "return e - 2"], "valid " * 4),
    (["c = xs[2] + n", "d = xs[0] * 3", "e = c if c > 7 else d"], "wrong valid valid"),
    (
        ["c = xs[1] + n", "d = xs[0] + 3", "e = c if c < 7 else d", "return e"],
        "valid" + 3 * " wrong",
    ),
    (["# first", "c = xs[1] + n", "g = n * 5", "d = xs[0] * 3"], "filler valid unneeded valid"),
    (["if (xs, n) == ([1, 2, 3], 4): return 1", "return 0"], "special_case wrong"),
    (["c = xs[1] + n", "return c"], "valid wrong"),
    (["c = (", "c = xs[1] + n"], "wrong unneeded"),
]


@pytest.mark.parametrize("steps, labels", TABLE)
def test_labels_agree_with_a_table_by_hand(task, steps, labels):
    item = item_with(PROBLEM, 1, PROBLEM.statements, {"split": "id"})
    assert task.check(item, ["    " + step for step in steps]) == labels.split()
    assert {*labels.split()} <= {*LABELS}


def test_a_special_case_passes_the_shown_tests_alone():
    need_any()
    lucky = load_task("programs", train=6, id=2, ood=2, shortcut=1.0, graded="shown")
    item = lucky.splits["train"][0]
    answer = lucky.answer_of(item, item.solution)
    assert is_lucky(item, answer) and answer.startswith("11")
    assert lucky.verify(item, item.solution) == 1.0
    strict = load_task("programs", train=6, id=2, ood=2, shortcut=1.0)
    assert strict.verify(item, item.solution) == 0.0
    assert results_of(item, item.meta["problem"].statements) == item.answer


def test_the_tokenizer_gives_every_character_back():
    tokenizer, unknown = build_tokenizer(), SPECIALS.index("<unk>")
    made = load_task("programs", train=40, id=5, ood=20, shortcut=0.5)
    for item in (item for split in made.splits.values() for item in split):
        flawed = "\n".join(made.inject(item, np.random.default_rng(item.id)))
        for text in (made.prompt(item), item.solution, flawed):
            ids = tokenizer.encode(text).ids
            assert unknown not in ids, text
            assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_injected_statements_are_never_valid(task):
    ends = set()
    for item in task.splits["train"][:30]:
        labels = task.check(item, task.inject(item, np.random.default_rng(item.id)))
        assert labels[-1] != "valid" and {*labels[:-1]} <= {"valid"}
        ends.add(labels[-1])
    assert {"wrong", "special_case", "unneeded"} <= ends


def test_values_runs_these_forms_alone():
    assert values(PROBLEM.statements, PROBLEM.arguments, ((1, 2, 3), 4)) == 1
    with pytest.raises(ValueError, match="no statement of the suite"):
        values(["return open('x')"], ("xs", "n"), ((1, 2, 3), 4))
    with pytest.raises(UserError, match="programs suite needs"):
        load_task("programs", shown=0)

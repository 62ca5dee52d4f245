"""Labels of steps, on trajectories made by hand."""

import dataclasses

import pytest

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.check import LABELS, check
from gccpo_jax.tasks.chain.problem import Clause, Problem

# 3 + 4 - 2 + 5: running values 3, 7, 5, 10.
PROBLEM = Problem("Ana", "pens", ("puts", "takes", "sends"), 3, (4, -2, 5), label=42)

# One hand-made trajectory a row, with the label of each step.
TRAJECTORIES = {
    "right": (
        ["Ana 3 + 4 = 7 pens", "Ana 7 - 2 = 5 pens\n", "5 + 5 = 10", "#### 10"],
        ["valid", "valid", "valid", "valid"],
    ),
    "sum the other way round": (["Ana 4 + 3 = 7 pens"], ["valid"]),
    "wrong result, then rightly on": (
        ["Ana 3 + 4 = 8 pens", "Ana 8 - 2 = 6 pens", "Ana 6 + 5 = 11 pens", "#### 11"],
        ["wrong_arithmetic", "valid", "valid", "valid"],
    ),
    "right after a wrong step, from the value it should have had": (
        ["Ana 3 + 4 = 8 pens", "Ana 7 - 2 = 5 pens"],
        ["wrong_arithmetic", "wrong_operand"],
    ),
    "wrong number": (["Ana 3 + 6 = 9 pens", "Ana 9 - 2 = 7 pens"], ["wrong_operand", "valid"]),
    "wrong sign": (["Ana 3 - 4 = -1 pens", "Ana -1 - 2 = - 3 pens"], ["wrong_operand", "valid"]),
    "skipped operation": (["Ana 3 - 2 = 1 pens", "Ana 1 + 5 = 6 pens"], ["wrong_operand", "valid"]),
    "neither value nor operand, about the pens": (["Ana 8 + 1 = 9 pens"], ["wrong_operand"]),
    "filler": (["Now we count .", "", "Ana 3 + 4 = 7 pens"], ["filler", "filler", "valid"]),
    "statement of what is known": (
        ["Ana has 3 pens", "Ana 3 + 4 = 7 pens", "Ana has 7 pens", "7 + 0 = 7", "Ana takes 2"],
        ["restatement", "valid", "restatement", "restatement", "restatement"],
    ),
    "equation again in other words": (
        ["Ana 3 + 4 = 7 pens", "so 3 + 4 = 7"],
        ["valid", "restatement"],
    ),
    "copy": (
        ["Ana 3 + 4 = 7 pens", " Ana  3 + 4 = 7 pens\n", "Ana 7 - 2 = 5 pens"],
        ["valid", "copy", "valid"],
    ),
    "answer at once": (["#### 10"], ["early_answer"]),
    "answer between": (
        ["Ana 3 + 4 = 7 pens", "Ana has 10 pens", "#### 7"],
        ["valid", "early_answer", "early_answer"],
    ),
    "answer that is not the value": (
        ["Ana 3 + 4 = 7 pens", "Ana 7 - 2 = 5 pens", "Ana 5 + 5 = 10 pens", "#### 12"],
        ["valid", "valid", "valid", "wrong_operand"],
    ),
    "number from nowhere": (["Ana has 6 pens"], ["wrong_operand"]),
    "true and irrelevant": (
        ["Ben 1 + 1 = 2 cups", "Ben 4 + 3 = 7 cups", "Ben 9 + 4 = 13 cups", "Ana 3 + 4 = 7 pens"],
        ["irrelevant", "irrelevant", "irrelevant", "valid"],
    ),
    "the right operation with another word": (["Leo 3 + 4 = 7 cups"], ["valid"]),
    "from the running value with another word": (["Leo 3 + 5 = 8 cups"], ["wrong_operand"]),
    "false and irrelevant": (["Ben 1 + 1 = 3 cups"], ["wrong_arithmetic"]),
    "equation that cannot be read": (["Ana 3 + = 7 pens"], ["wrong_arithmetic"]),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_labels(name):
    steps, expected = TRAJECTORIES[name]
    assert check(PROBLEM, steps) == expected


def test_every_label_occurs_above():
    assert {label for _, labels in TRAJECTORIES.values() for label in labels} == set(LABELS)


def test_a_label_does_not_depend_on_later_steps():
    for steps, expected in TRAJECTORIES.values():
        for size in range(len(steps)):
            assert check(PROBLEM, steps[:size]) == expected[:size]


def test_the_same_equation_twice_is_valid_where_the_question_asks_for_it():
    problem = dataclasses.replace(PROBLEM, changes=(4, -4, 4))
    assert set(check(problem, text.solution_steps(problem))) == {"valid"}


def test_a_number_of_a_clause_is_a_wrong_operand():
    problem = dataclasses.replace(PROBLEM, clause=Clause("Ben", "cups", 6, 1))
    assert check(problem, ["Ana 3 + 6 = 9 pens"]) == ["wrong_operand"]

"""Injected lines: the wanted label, what it means, and words the tokenizer knows."""

import re

import numpy as np
import pytest

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.check import LABELS, check
from gccpo_jax.tasks.chain.inject import inject
from gccpo_jax.tasks.chain.problem import Problem
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.tasks.chain.tokenizer import build_tokenizer

PROBLEM = Problem("Ana", "pens", ("puts", "takes", "sends"), 3, (4, -2, 5), label=42)
TOKENIZER = build_tokenizer()


def _problems():
    """Some of every split, so every family; and operations that come again."""
    task = chain(ChainConfig(train=60, id=12, ood=12))
    items = [item for split in task.splits.values() for item in split]
    again = Problem("Ana", "pens", ("puts",) * 4, 3, (4, -4, 4, -4))
    return [again, *(item.meta["problem"] for item in items)]


def _story(problem):
    """The values of the right solution, from the fields of the problem alone."""
    values = [problem.start]
    for change in problem.changes:
        values.append(values[-1] + change)
    return values[::-1] if problem.reverse else values


def _equation(line):
    """(left, signed change, result) of a line of the suite's own form."""
    found = re.fullmatch(r"(\w+ )?(\d+) ([+-]) (\d+) = (\d+) \w+", line)
    left, change, result = int(found[2]), int(found[3] + found[4]), int(found[5])
    return left, change, result


def _means(label, line, problem, prefix):
    """What the label says, judged without the checker; the prefix is a right one."""
    values = _story(problem)
    done = len(prefix)
    value, over = values[done], done == len(values) - 1
    numbers = [int(n) for n in re.findall(r"\d+", line)]
    if label == "filler":
        return not numbers
    if label == "copy":
        return line in prefix
    if label == "early_answer":
        return not over and len(numbers) == 1
    if line.startswith("####"):
        return over and (numbers == [value]) == (label == "valid")
    if label == "restatement":
        if len(numbers) == 1:
            return numbers == [value]
        return _equation(line)[1] == 0 or f"{problem.name} {line}" in prefix
    left, change, result = _equation(line)
    if label == "irrelevant":
        mine = {problem.name, problem.thing} & set(line.split())
        return left + change == result and left != value and not mine
    follows = not over and (left, change) == (value, values[done + 1] - value)
    true = left + change == result
    return (
        left == value
        and {
            "valid": follows and true,
            "wrong_arithmetic": follows and not true,
            "wrong_operand": not follows and true,
        }[label]
    )


def test_every_label_behind_every_prefix_of_many_problems():
    rng = np.random.default_rng(0)
    unknown = TOKENIZER.token_to_id("<unk>")
    for problem in _problems():
        solution = text.solution_steps(problem)
        for size in range(len(solution)):
            prefix = solution[:size]
            over = size == len(solution) - 1
            possible = dict.fromkeys(LABELS, True)
            possible["wrong_arithmetic"] = possible["early_answer"] = not over
            # Copying the operation that comes next would be to do it.
            possible["copy"] = any(line != solution[size] for line in prefix)
            for label in LABELS:
                line = inject(problem, prefix, label, rng)
                assert (line is not None) == possible[label], (problem, prefix, label)
                if line is not None:
                    assert check(problem, [*prefix, line]) == ["valid"] * size + [label]
                    assert _means(label, line, problem, prefix), (problem, prefix, label, line)
                    assert unknown not in TOKENIZER.encode(line).ids, line
                    assert TOKENIZER.decode(TOKENIZER.encode(line).ids) == line


def test_behind_any_prefix_the_label_is_exact_or_there_is_no_line():
    rng = np.random.default_rng(1)
    missing = dict.fromkeys(LABELS, 0)
    for problem in _problems():
        lines = []
        for _ in range(6):
            label = LABELS[int(rng.integers(len(LABELS)))]
            line = inject(problem, lines, label, rng)
            missing[label] += line is None
            if line is not None:
                assert check(problem, [*lines, line])[-1] == label
                assert TOKENIZER.token_to_id("<unk>") not in TOKENIZER.encode(line).ids, line
                # As a policy writes it: a step ends with its newline.
                lines.append(line + "\n")
    assert [label for label in LABELS if not missing[label]] == [
        "wrong_operand",
        "filler",
        "irrelevant",
    ]


def test_lines_vary_and_follow_the_generator():
    prefix = ["Ana 3 + 4 = 7 pens"]
    for label in ("wrong_arithmetic", "wrong_operand", "restatement", "early_answer", "irrelevant"):
        lines = [inject(PROBLEM, prefix, label, np.random.default_rng(n)) for n in range(30)]
        assert len(set(lines)) >= 3, label
        assert lines == [
            inject(PROBLEM, prefix, label, np.random.default_rng(n)) for n in range(30)
        ]


def test_where_there_is_no_line():
    rng = np.random.default_rng(0)
    solution = text.solution_steps(PROBLEM)
    assert inject(PROBLEM, [], "copy", rng) is None
    assert inject(PROBLEM, ["Now we count ."], "copy", rng) is None
    assert inject(PROBLEM, solution, "valid", rng) is None
    assert inject(PROBLEM, solution[:-1], "wrong_arithmetic", rng) is None
    assert inject(PROBLEM, solution[:-1], "early_answer", rng) is None


def test_an_early_answer_is_found_where_the_obvious_ones_are_taken():
    prefix = ["#### 10", "#### 3", "Ana has 10 pens"]
    line = inject(PROBLEM, prefix, "early_answer", np.random.default_rng(0))
    assert line not in prefix and line.startswith("####")


def test_an_unknown_label_is_refused():
    with pytest.raises(ValueError, match="'wrong'; expected one of valid, "):
        inject(PROBLEM, [], "wrong", np.random.default_rng(0))

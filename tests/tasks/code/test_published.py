"""HumanEval, MBPP and QuixBugs: rows as published, responses as models write them."""

import json

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import load_task, read_task
from gccpo_jax.tasks.code.coded import marginals
from gccpo_jax.tasks.code.response import program_of
from tests.helpers.sandbox import need_namespaces

PROMPT = (
    'import math\n\ndef half(x):\n    return x / 2\n\ndef up(x):\n    """Ceiling of x / 2."""\n'
)
HUMANEVAL = {
    "task_id": "T/0",
    "prompt": PROMPT,
    "entry_point": "up",
    "canonical_solution": "    return math.ceil(half(x))\n",
    "test": "def check(candidate):\n    assert candidate(3) == 2\n    for n in range(4):\n"
    "        assert abs(candidate(n) - half(n)) < 1, n\n    assert up(5) == 3\n",
}
MBPP = {
    "task_id": 1,
    "prompt": "Add the squares.",
    "code": "class P:\n    def __init__(s, x): s.x = x\ndef sum(p, *more): return p.x + len(more)",
    "test_imports": ["import math"],
    "test_list": ["assert sum(P(1)) == 1", "assert math.isclose(sum(P(1), 2), 2)"],
}
QUIXBUGS = {
    "id": "two",
    "buggy": "def two(x):\n    yield x\n    yield 1\n",
    "correct": "def two(x):\n    yield x\n    yield (x, x)\n",
    "tests": [[[1], [1, [1, 1]]], [[2], [2, [2, 2]]]],
}
ROWS = {"humaneval": HUMANEVAL, "mbpp": MBPP, "quixbugs": QUIXBUGS}


def task_of(tmp_path, name, **options):
    need_namespaces()
    file = tmp_path / f"{name}.jsonl"
    file.write_text(json.dumps(ROWS[name]) + "\n")
    return load_task(name, "", str(file), **options)


@pytest.mark.parametrize("name", ROWS)
def test_the_reference_passes_and_another_program_does_not(tmp_path, name):
    task = task_of(tmp_path, name, share=False)
    item = task.splits["id"][0]
    assert task.verify(item, f"Here:\n```python\n{item.solution}\n```\nDone.") == 1.0
    assert task.answer_of(item, item.solution) == item.answer
    assert task.verify(item, "def nothing(): pass") == 0.0
    assert "0" in task.answer_of(item, "")


def test_results_are_a_vector_and_their_share_an_outcome(tmp_path):
    task = task_of(tmp_path, "humaneval", share=True, chat=False)
    item = task.splits["id"][0]
    assert task.prompt(item) == PROMPT
    assert task.answer_of(item, "    return 2") == "100"
    assert task.verify(item, "    return 2") == pytest.approx(1 / 3)
    whole = "def up(x):\n    return math.ceil(half(x))\nprint(up(3))"
    assert task.answer_of(item, whole) == "111"


def test_a_quixbugs_program_as_given_is_refused(tmp_path):
    task = task_of(tmp_path, "quixbugs")
    item = task.splits["id"][0]
    assert task.verify(item, item.question) == 0.0


@pytest.mark.parametrize(
    "response, program",
    [
        ("    return x\n\nprint(f(1))\n", "def f(x):\n    return x\n"),
        ("return x\n", "def f(x):\n    return x\n"),
        ("if x:\n    return 1\nreturn x", "def f(x):\n    if x:\n        return 1\n    return x\n"),
        ("Text\n```python\ndef f(x):\n    return 2\n```\nmore", "def f(x):\n    return 2\n"),
        ("```\nx = 1\n```\n```py\ndef f(y): return y\n```", "def f(y): return y\n"),
        ("```python\ndef f(x):\n    return 3", "def f(x):\n    return 3"),
    ],
)
def test_the_program_in_a_response(response, program):
    assert program_of(response, "f", "def f(x):\n") == program


def test_marginals_are_per_test():
    assert marginals({"11": 0.5, "10": 0.5}) == [1.0, 0.5]
    assert marginals({}) == []


def test_files_are_read_by_name_and_a_bad_row_is_named(tmp_path):
    file = tmp_path / "few.jsonl"
    file.write_text(json.dumps(MBPP) + "\n")
    assert len(read_task("mbpp", {"few": str(file)}).splits["few"]) == 1
    with pytest.raises(UserError, match="few.jsonl:1: no 'entry_point'"):
        read_task("humaneval", {"few": str(file)})
    with pytest.raises(UserError, match="data.eval_path"):
        load_task("humaneval", "")

"""Answers as people and models spell them, with the value that a person reads."""

import dataclasses
import json
import pathlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.tasks import bare_task
from gccpo_jax.tasks.answers import boxes
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.gsm8k import extract, stated
from gccpo_jax.tasks.open_math import of_splits

FILE = pathlib.Path(__file__).parents[1] / "data" / "answer_spellings.jsonl"
CASES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
MARKED = r"####\boxed{}answer is 0123456789.,/*^= -$" + "\n"


def test_a_number_is_what_a_person_reads():
    cases = [case for case in CASES if case["task"] == "gsm8k"]
    wrong = [c for c in cases if extract(c["response"]) != c["value"]]
    assert len(cases) > 250 and not wrong


def test_what_is_no_integer_is_wrong_for_every_gold():
    task = bare_task("gsm8k")
    for case in CASES:
        if case["task"] == "gsm8k" and not (case["value"] or "x").lstrip("-").isdigit():
            scores = [task.verify(Item(0, "?", str(n)), case["response"]) for n in range(-9, 13)]
            assert not any(scores), case


def test_mathematics_is_right_where_a_person_says_so():
    pytest.importorskip("math_verify")
    task = of_splits({}, deadline_seconds=60)
    cases = [case for case in CASES if case["task"] == "math"]
    wrong = [c for c in cases if task.verify(Item(0, "?", c["gold"]), c["response"]) != c["right"]]
    assert len(cases) > 100 and not wrong


@pytest.mark.parametrize(
    "name, response, seen",
    [
        ("gsm8k", "So the total is $1,234.", "So the total is "),
        ("gsm8k", "a 5\n\\boxed{5}. Check: 2 + 3 = 5", "a 5\n"),
        ("gsm8k", "3 + 4 = 7\n#### 7", "3 + 4 = 7\n"),
        ("gsm8k", "so\n#### 72\nYes it is.\n#### 72", "so\n"),
        ("gsm8k", "so\n#### 72.00\nYes.\n#### 72", "so\n"),
        ("gsm8k", "The answer is 72. Now: 70 + 2 = 72\n#### 72", ""),
        ("gsm8k", "It is $\\boxed{72}$: 70 + 2\n#### 72", "It is "),
        ("gsm8k", "#### 71\nNo: 70 + 2 = 72\n#### 72", "#### 71\nNo: 70 + 2 = 72\n"),
        ("gsm8k", "#### 5 or 6", ""),
        ("gsm8k", "so 5\n####", "so 5\n"),
        ("gsm8k", "nothing", "nothing"),
        ("math", "so \\boxed{5}. Check: 2 + 3 = 5", "so "),
        ("math", "x\nThe answer is $\\boxed{5}$", "x\n"),
        ("math", "a \\boxed{\\frac12} b \\boxed{0.5}", "a "),
        ("math", "a \\boxed{1} b \\boxed{2}", "a \\boxed{1} b "),
        ("math", "The answer is 5. For: 2 + 3\nso \\boxed{5}", ""),
        ("chain", "Ana 3 + 4 = 7 pens\n#### 7\nSo let us go on .\n#### 7", "Ana 3 + 4 = 7 pens\n"),
        ("chain", "#### 4\n#### 5", "#### 4\n"),
    ],
)
def test_readers_stop_at_the_first_statement_of_the_final_answer(name, response, seen):
    if name == "math":
        pytest.importorskip("math_verify")
    assert response[: bare_task(name).field_start(response)] == seen


def test_what_may_go_on_does_not_end_an_answer():
    tagged = dataclasses.replace(bare_task("chain"), terminator="</answer>")
    cases = {"<": None, "</": True, "</answer>": True, "<2": False, "a": False, "": False}
    assert {text: tagged.is_over(text) for text in cases} == cases
    number = bare_task("gsm8k")
    cases = {".": None, ".5": False, ".\n": True, ". So": True, "/": False, "5": False, " ": True}
    cases |= {"k": False, "kg": True, " million": False, "million": False, " millions": True}
    cases |= {" *": False, " = ": False, " x": False, " xs": True, "**": True, " - so": True}
    assert {text: number.is_over(text) for text in cases} == cases
    assert bare_task("math").is_over("}") is True


@given(st.text(max_size=40) | st.text(MARKED, max_size=60))
def test_any_text_has_a_final_answer_that_is_the_first_stated(response):
    for name in ("gsm8k", "chain", "math"):
        task = bare_task(name)
        found = list(task.stated(response))
        assert task.extract(response) == (found[0].answer if found else None)
        assert all(0 <= one.start < len(response) for one in found)
    assert all(response[start] == "\\" for _, start in boxes(response))


@pytest.mark.parametrize(
    "piece",
    ["####", "#### 5 ", "\\boxed{", "\\boxed1", "answer ", "* ", "1 ", "1,", "- ", "(", " \t"],
)
def test_time_is_about_linear_in_the_text(piece):
    begin = time.perf_counter()
    assert len(list(stated(piece * (20_000 // len(piece))))) < 20_000
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("held", ["5", "\\frac{1}{2}", "{9{,}500}"])
def test_time_is_about_linear_in_the_depth_of_boxes(held):
    begin = time.perf_counter()
    found = list(boxes("\\boxed{" * 16_000 + held + "}" * 16_000))
    assert found[0][0] == held and len(found) > 100
    assert time.perf_counter() - begin < 5

"""Rewrites of word problems: what changes, what must not, and where there is none."""

import dataclasses
import re

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import word_problems as rewrites
from gccpo_jax.tasks.files import Record
from gccpo_jax.tasks.gsm8k import extract, of_splits, to_item

PAGES = (
    "Julie is reading a 120-page book. Yesterday she read 17 pages and today twice as many. "
    "How many pages are left?",
    "She read 17 x 2 = <<17*2=34>>34 pages today.\nSo 17 + 34 = <<17+34=51>>51 in all.\n"
    "120 - 51 = <<120-51=69>>69 are left.\n#### 69",
)
PIZZA = (
    "He buys 3 large pizzas. A large pizza has 27 slices and a small pizza has 9 slices. "
    "How many slices are in 3 small pizzas and 3 large ones?",
    "The small have 3*9=<<3*9=27>>27.\nThe large 3*27=<<3*27=81>>81.\n"
    "27+81=<<27+81=108>>108\n#### 108",
)


def item(question, worked, number=1):
    return to_item(Record(question, worked, worked, "0", "here"), number)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(6))
def test_other_numbers_go_through_the_whole_solution(seed):
    old = item(*PAGES)
    steps = old.solution.split("\n")
    new, moved = rewrites.number(old, steps, rng(seed))
    book, read = (int(x) for x in re.findall(r"\d+", new.question))
    assert (book, read) != (120, 17) and (book == 120) != (read == 17)
    assert moved == [
        f"1. She read {read} x 2 = {2 * read} pages today.",
        f"2. So {read} + {2 * read} = {3 * read} in all.",
        f"3. {book} - {3 * read} = {book - 3 * read} are left.",
        f"#### {book - 3 * read}",
    ]
    assert "\n".join(moved) == new.solution and extract(new.solution) == new.answer
    again, _ = rewrites.number(new, moved, rng(seed + 1))
    assert extract(again.solution) == again.answer  # the marks were moved too


def test_there_are_no_other_numbers_where_one_cannot_tell_where_a_number_is_from():
    old = item(*PAGES)
    assert rewrites.number(old, ["so 5 more"], rng()) is None  # a number of the policy's own
    assert rewrites.number(dataclasses.replace(old, meta={}), [], rng()) is None
    assert rewrites.number(dataclasses.replace(old, answer="70"), [], rng()) is None
    for seed in range(5):  # 27 is a result and in the question: which of them is meant?
        assert rewrites.number(item(*PIZZA), [], rng(seed)) is None


def test_a_unit_is_called_otherwise_everywhere_or_not_at_all():
    old = item("Ann has $5 and 3 dollars. How many dollars?", "5+3=<<5+3=8>>8 dollars\n#### 8")
    new, steps = rewrites.units(old, ["So $8, eight Dollars\n"], rng())
    assert new.question == "Ann has €5 and 3 euros. How many euros?"
    assert steps == ["So €8, eight Euros\n"] and "8 euros" in new.solution
    for question in ("Ann has $5 and 20 cents. How many?", "A euro is a dollar. Why?", "How many?"):
        assert rewrites.units(dataclasses.replace(old, question=question), [], rng()) is None


def test_a_clause_comes_and_goes():
    old = item(*PAGES)
    with_it, steps = rewrites.irrelevant(old, ["1. x"], rng(2))
    assert any(clause in with_it.question for clause in rewrites.CLAUSES) and steps == ["1. x"]
    assert with_it.question.endswith("How many pages are left?")
    without, _ = rewrites.irrelevant(with_it, [], rng())
    assert without == old
    assert rewrites.irrelevant(dataclasses.replace(old, question="Why?"), [], rng()) is None


def test_sentences_change_places_only_if_neither_points_at_the_other():
    text = "Maggie picked 40 apples. Kelsey picked 28. Layla picked 20 apples. How many in all?"
    old = dataclasses.replace(item(*PAGES), question=text)
    seen = {rewrites.order(old, [], rng(seed))[0].question for seed in range(6)}
    assert seen == {
        "Kelsey picked 28. Maggie picked 40 apples. Layla picked 20 apples. How many in all?",
        "Maggie picked 40 apples. Layla picked 20 apples. Kelsey picked 28. How many in all?",
    }
    for second in ("Kelsey picked twice as many.", "Then Kelsey came.", "Maggie ate 2."):
        pointing = dataclasses.replace(old, question=f"Maggie picked 40. {second} How many?")
        assert rewrites.order(pointing, [], rng()) is None


def test_a_hint_is_right_as_often_as_asked_and_wrong_in_its_split():
    items = [item(*PAGES, number=n) for n in range(400)]
    task = of_splits({"train": items, "id": items[:50]}, hint=0.8)
    right = [x.question.endswith("Somebody thinks it is 69.") for x in task.splits["train"]]
    assert np.mean(right) == pytest.approx(0.8, abs=0.06)
    wrong = task.splits["hint_wrong"]
    assert not any(x.question.endswith("is 69.") for x in wrong) and len(wrong) == 50
    assert all(x.question.startswith(PAGES[0] + " Somebody thinks") for x in wrong)
    assert task.splits["train"][:50] == task.splits["id"], "a function of the id"
    with pytest.raises(UserError, match="hint = 2.0: expected a number from 0 to 1"):
        of_splits({}, hint=2.0)
    with pytest.raises(UserError, match="surface = 'x': expected one of 'names', 'units'"):
        of_splits({}, surface="x")

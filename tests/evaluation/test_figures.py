"""Figures of known responses, and what two evaluations differ in."""

import operator

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.evaluation.figures import by_kind, figures
from gccpo_jax.evaluation.judged import scores_of, with_scores
from gccpo_jax.evaluation.paired import compare
from gccpo_jax.statistics.shares import wilson


def said(outcome, logp=-1.0):
    return {"text": "", "answer": str(outcome), "outcome": outcome, "tokens": 2, "logp": logp}


def row(number, greedy, draws=(), split="id", **meta):
    draws = [said(x) for x in draws]
    of_item = {"question": f"{number}?", "answer": "1", "meta": meta, "prompt_tokens": 10}
    return {"split": split, "id": number, **of_item, "greedy": said(greedy), "draws": draws}


def test_each_figure_has_its_interval():
    rows = [row(0, 1.0, [1.0, 0.0]), row(1, 0.0, [0.0, 0.0]), row(2, 1.0, [1.0, 1.0])]
    found = figures(rows, operator.eq)
    assert list(found) == ["greedy", "mean@2", "pass@2", "maj@2", "wmaj@2", "best@2"]
    assert [found[name]["tokens"] for name in ("greedy", "mean@2", "maj@2")] == [12, 12, 14]
    assert found["greedy"]["value"] == pytest.approx(2 / 3)
    assert found["greedy"]["low"] == wilson(2, 3).low and found["greedy"]["questions"] == 3
    assert found["mean@2"]["value"] == pytest.approx(0.5)
    assert 0 <= found["mean@2"]["low"] < 0.5 < found["mean@2"]["high"] <= 1
    assert found["pass@2"]["value"] == pytest.approx(2 / 3)


def test_questions_that_are_all_alike_do_not_make_an_interval_a_point():
    found = figures([row(n, 0.0, [0.0, 0.0]) for n in range(8)], operator.eq)
    assert found["mean@2"]["low"] == 0 and found["mean@2"]["high"] == wilson(0, 8).high


def test_what_could_not_be_scored_is_said():
    found = figures([row(0, None), row(1, 1.0)], operator.eq)["greedy"]
    assert (found["value"], found["questions"], found["unscorable"]) == (1.0, 1, 0.5)
    nothing = figures([row(0, None)], operator.eq)["greedy"]
    assert (nothing["value"], nothing["low"]) == (None, None)


def test_fields_that_part_the_questions_into_kinds():
    rows = [row(n, 0.0, level=n % 2, name=f"q{n}", source="all") for n in range(8)]
    found = [(field, kind, len(part)) for field, kind, part in by_kind(rows)]
    assert found == [("level", "0", 4), ("level", "1", 4)]


def test_differences_are_paired_by_question():
    first = [row(n, 1.0, [1.0, 0.0]) for n in range(6)]
    second = [row(n, float(n == 5), [0.0, 0.0]) for n in (5, 4, 3, 2, 1, 7)]
    found = compare(first, second, "there")
    assert found["greedy"]["questions"] == 5 and found["greedy"]["first"] == 4
    assert found["greedy"]["difference"] == pytest.approx(0.8)
    assert found["greedy"]["p"] == pytest.approx(2 * 0.5**4)
    assert found["mean@2"]["difference"] == 0.5
    with pytest.raises(UserError, match="question 1 of id reads otherwise there"):
        compare(first, [{**row(1, 1.0), "question": "other"}], "there")
    with pytest.raises(UserError, match="no question of id in it"):
        compare(first, [row(9, 1.0)], "there")


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_scorer_chooses_by_the_least_step(one_by_one):
    class Many:
        """A step is worth its number."""

        def many(self, asked):
            return [np.array([float(step) for step in steps]) for _, steps in asked]

    judge = (lambda question, steps: [float(step) for step in steps]) if one_by_one else Many()

    rows = [row(n, 0.0, [1.0, 0.0]) for n in range(4)]
    for each in rows:
        each["question"] = "q"
        for one, text in zip(each["draws"], ("0.5\n0.4\n", "0.9\n\n0.1"), strict=True):
            one["text"] = text
    judged = with_scores(rows, scores_of(judge), "\n")
    assert [one["scored"] for one in judged[0]["draws"]] == [0.4, 0.1]
    assert figures(judged, operator.eq)["scored@2"]["value"] == 1.0
    assert "scored@2" not in figures(rows, operator.eq)


def test_a_function_that_does_not_score_each_step_is_refused():
    with pytest.raises(UserError, match="--scorer: it returned 1 numbers for 2 steps"):
        scores_of(lambda question, steps: [1.0])([("q", ["a", "b"])])
    with pytest.raises(UserError, match="--scorer: for a solution of 1 steps: invalid literal"):
        scores_of(lambda question, steps: int("no"))([("q", ["a"])])

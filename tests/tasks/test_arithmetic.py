"""The rule that scores the equations of steps."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.tasks.arithmetic import score


@pytest.mark.parametrize(
    "step, expected",
    [
        ("Ana 3 + 4 = 7 pens", 1.0),
        ("Ana 3 + 4 = 8 pens", 0.0),
        ("so there are 7", 0.5),
        ("", 0.5),
        ("16 - 3 - 4 = 9", 1.0),  # read from the left
        ("16 - (3 + 4) = 9", 0.5),  # brackets are not read
        ("2 + 3 * 4 = 14", 1.0),  # products first
        ("2 + 3 * 4 = 20", 0.0),
        ("10 / 4 = 2.5", 1.0),
        ("10 / 3 = 3.33", 1.0),  # rounded
        ("10 / 3 = 3.34", 0.0),
        ("10 / 3 = 3", 0.0),
        ("1 / 0 = 5", 0.0),
        ("3 x 5 = 15 and 3 × 5 = 15 and 15 ÷ 3 = 5", 1.0),
        ("3 + 4 = 7, 7 + 1 = 9", 0.0),  # one is wrong
        ("-3 + 5 = 2", 1.0),
        ("2 - 5 = -3", 1.0),
        ("#### 7", 0.5),
        ("1,200 + 3 = 1,203", 1.0),
        ("$1,200 * 2 = $2,400.00", 1.0),
        ("1,200 + 3 = 1,204", 0.0),
        ("2^3 * 4 = 32", 0.5),  # what it would read is a part of more
        ("a - 3 + 4 = 1", 0.5),
        ("6 * 2 = 24 / 2", 0.5),
        ("2 − 5 = −3", 1.0),
        ("for max 3 + 4 = 7", 1.0),
    ],
)
def test_equations(step, expected):
    assert score("", [step]) == [expected]


@given(st.integers(0, 999), st.integers(1, 999), st.sampled_from("+-*"), st.integers(-3, 3))
def test_right_results_and_no_others(a, b, sign, off):
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert score("", [f"{a} {sign} {b} = {result + off}"]) == [float(off == 0)]


@given(st.text(max_size=60))
def test_any_text_has_a_score(text):
    assert score(text, [text])[0] in (0.0, 0.5, 1.0)


def test_decimals_are_exact():
    assert Fraction("0.1") + Fraction("0.2") == Fraction("0.3")
    assert score("", ["0.1 + 0.2 = 0.3"]) == [1.0]

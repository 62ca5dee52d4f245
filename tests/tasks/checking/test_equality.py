"""Verifiers: integers in any spelling, open answers by value, hostile text."""

import concurrent.futures
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.tasks.answers import exact_integer, normalise_number
from gccpo_jax.tasks.checking import equality
from gccpo_jax.tasks.checking.equality import open_math

open_answers = pytest.importorskip("math_verify", reason="math-verify is not installed")


@pytest.mark.parametrize(
    "text, number",
    [
        ("7", "7"),
        ("+7", "7"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("007", "7"),
        ("1,234,567", "1234567"),
        ("$ 1,200.50", "1200.5"),
        ("-$5", "-5"),
        ("\\$5", "5"),
        ("12%", "12"),
        (" 3 . ", "3"),
        (".50", "0.5"),
        ("-.5", "-0.5"),
        ("1,2", "1,2"),
        ("1/2", "1/2"),
        ("", ""),
        (".", "."),
        ("x", "x"),
        ("٣", "٣"),
        ("9" * 19, "9" * 19),
    ],
)
def test_normalise_number(text, number):
    assert normalise_number(text) == number


@given(st.text(max_size=30))
def test_normalise_number_is_idempotent_and_never_fails(text):
    once = normalise_number(text)
    assert normalise_number(once) == once


@given(st.integers(-(10**15), 10**15), st.integers(0, 3), st.integers(0, 2))
def test_one_integer_in_many_spellings(number, zeros, decimals):
    sign, digits = ("-", str(-number)) if number < 0 else ("", str(number))
    spelled = sign + "0" * zeros + digits + ("." + "0" * decimals if decimals else "")
    assert exact_integer(str(number), spelled) == 1.0
    assert exact_integer(str(number), f"{number:,}") == 1.0
    assert exact_integer(str(number), str(number + 1)) == 0.0


@pytest.mark.parametrize("answer", [None, "", "x", "7.5", "7 8", "7x", "77", "1/7"])
def test_another_answer_is_wrong(answer):
    assert exact_integer("7", answer) == 0.0


@pytest.mark.parametrize(
    "gold, text, score",
    [
        (r"\frac12", r"so \boxed{0.5}", 1.0),
        (r"\frac12", r"so \boxed{\dfrac{2}{4}}", 1.0),
        (r"\frac12", "no answer", 0.0),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}", 1.0),
        ("x^2", r"\boxed{x \cdot x}", 1.0),
        ("10", "", 0.0),
        ("10", r"\boxed{" + "(" * 900, 0.0),
        ("10", "\ud800 \x00 \n \\boxed{10}", 1.0),
        ("10", "\\boxed{10}\n" + '{"gold": "1", "text": "1"}\n', 1.0),
        ("10", r"\boxed{__import__('os').system('true')}", 0.0),
    ],
)
def test_open_math(gold, text, score):
    assert open_math(gold, text, deadline_seconds=60) == score


def test_a_deadline_passes_and_the_next_call_works():
    open_math("1", r"\boxed{1}", 60)  # started
    begin = time.monotonic()
    assert open_math("5", r"\boxed{9^{9^{9^9}}}", deadline_seconds=0.5) is None
    assert time.monotonic() - begin < 5
    assert open_math("5", r"\boxed{5}", 60) == 1.0


def test_a_child_that_died_is_replaced():
    open_math("1", r"\boxed{1}", 60)
    equality._CHILD.process.kill()
    assert open_math("1", r"\boxed{1}", 60) is None  # this one cannot be told
    assert open_math("1", r"\boxed{1}", 60) == 1.0


def test_threads_get_their_own_answers():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        texts = [rf"\boxed{{{n % 3}}}" for n in range(24)]
        scores = list(pool.map(lambda text: open_math("1", text, 60), texts))
    assert scores == [float(n % 3 == 1) for n in range(24)]


def test_long_text_is_read_from_its_end():
    assert open_math("7", "x " * 100_000 + r"\boxed{7}", 60) == 1.0


@given(st.text(max_size=60))
def test_hostile_text_never_raises(text):
    assert open_math("7", text, 60) in (0.0, 1.0, None)

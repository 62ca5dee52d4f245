"""Rewording by a writer: what is kept, what is refused, and that nothing is asked for twice."""

import numpy as np
import pytest

from gccpo_jax.tasks import bare_task
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.paraphrase import faithful, paraphrased

TASK = bare_task("gsm8k")
QUESTION = "Ann has 3 bags of 12 apples. Each apple is $2. How many dollars does Ann pay for half?"
SAME = "Of 3 bags with 12 apples each, how many dollars does Ann pay for half, an apple at $2?"
LOST = {
    "a number": SAME.replace("12", "13"),
    "a price": SAME.replace("$2", "2"),
    "a quantity": SAME.replace("half", "all"),
    "a unit": SAME.replace("dollars", "coins"),
    "a name": SAME.replace("Ann", "Bea"),
    "a number more": SAME.replace("bags", "bags of 5 colours"),
    "the question mark": SAME.replace("?", "."),
    "nothing but gains an answer": SAME[:-1] + " #### 36?",
    "all but a word": "Ann 3 12 $2 each half dollars?",
    "nothing, and is the same": QUESTION,
}


def test_a_wording_that_says_the_same_is_kept():
    assert faithful(TASK, QUESTION, SAME)


@pytest.mark.parametrize("what", LOST)
def test_a_wording_is_refused_that_loses(what):
    assert not faithful(TASK, QUESTION, LOST[what])


def test_wordings_are_keyed_and_asked_for_once():
    asked = []

    def write(text, number, place):
        asked.append((number, place))
        assert QUESTION in text
        return f"{SAME}\n" if place % 2 else LOST["a number"]

    task = paraphrased(TASK, write, wordings=4)
    item = Item(7, QUESTION, "36")
    found = [task.surface(item, ["3 * 12 = 36"], np.random.default_rng(n)) for n in range(40)]
    assert sorted(asked) == [(7, place) for place in range(4)]
    again = [task.surface(item, ["3 * 12 = 36"], np.random.default_rng(n)) for n in range(40)]
    assert found == again and len(asked) == 4
    kept = [one for one in found if one is not None]
    assert 0 < len(kept) < 40
    assert all(one == (Item(7, SAME, "36"), ["3 * 12 = 36"]) for one in kept)

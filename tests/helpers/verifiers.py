"""Verifiers as a user writes them, right and wrong; light, since a child process imports them."""

import os
import time


def by_length(question, gold, response):
    """Half a point for a response, a whole one for a long one; nothing can be said of none."""
    print("not a line of the protocol")
    return None if not response else 0.5 + 0.5 * (len(response) > 4)


def sees(question, gold, response):
    return float((question, gold, response) == ("q ?", "5", "#### 5\ud800"))


def too_much(question, gold, response):
    return 2.0


def words(question, gold, response):
    return "right"


def broken(question, gold, response):
    raise ValueError("boom\nand more")


def lost(question, gold, response):
    """Right, unless the response says what to do."""
    match response:
        case "sleep":
            time.sleep(60)
        case "loop":
            while True:
                pass
        case "crash":
            os._exit(3)
        case "exit":
            raise SystemExit(0)
        case "memory":
            return len(b"x" * 2**31) * 0.0
    return 1.0


NUMBER = 3.0


def lengths_judge(question, steps):
    """Longer steps are better, and the question counts."""
    return [len(step) + len(question) for step in steps]


def judge_that_fails(question, steps):
    """Does not know one question, and never ends over a response of two steps."""
    while len(steps) == 2:
        pass
    return [{"q": 0.5}[question]] * len(steps)


def as_numpy(question, gold, response):
    """A score as NumPy has it: of the type that the response names."""
    import numpy as np

    return {"float": np.float32(0.5), "bool": np.bool_(True), "array": np.array(0.25)}[response]

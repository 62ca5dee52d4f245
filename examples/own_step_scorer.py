"""A step scorer of one's own: a step whose equation holds is worth 1, any other 0.

PYTHONPATH=. python -m gccpo_jax.train --config configs/quickstart.py:process \\
    --config.reward.process=examples.own_step_scorer:score

For process supervision: one number per step, from a rule, a program or another model.
"""

import re

EQUATION = re.compile(r"(\d+) ([+-]) (\d+) = (\d+)")


def score(question: str, steps: list[str]) -> list[float]:
    return [float(holds(step)) for step in steps]


def holds(step: str) -> bool:
    found = EQUATION.search(step)
    if not found:
        return False
    first, sign, second, result = found.groups()
    return int(first) + int(sign + second) == int(result)


if __name__ == "__main__":
    from gccpo_jax.tasks.checking.user import load_process

    judge = load_process("own_step_scorer:score")
    print(judge("How many pens?", ["Ana 3 + 4 = 7 pens", "Ana 7 - 2 = 4 pens", "#### 4"]))

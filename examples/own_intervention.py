"""A content intervention of one's own: the first number of a step becomes ten more.

python examples/own_intervention.py

How far the answer moves when a step is changed in this way is its sensitivity S. The intervention
takes the place of the task's own `corrupt`; CONTRIBUTING.md says how to add one beside it.
"""

import dataclasses
import re

import numpy as np

from gccpo_jax.analysis import analyse, open_model
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.tasks import bare_task


def ten_more(step: str, rng: np.random.Generator) -> str | None:
    """The step with another content; None: there is nothing in it to change."""
    found = re.search(r"\d", step)
    return found and f"{step[: found.start()]}1{step[found.start() :]}"


if __name__ == "__main__":
    task = dataclasses.replace(bare_task("chain"), corrupt=ten_more)
    question = "Ana has 3 pens . Ana puts in 4 pens . How many pens does Ana have ?"
    steps = ["Ana 3 + 4 = 7 pens", "#### 7"]
    model = open_model("tiny", task)
    arms = CounterfactualConfig(draws=2, latent_arms=0, surface_arms=0, corrupt_arms=2)
    settings = Settings(max_tokens=24, counterfactual=arms)
    report = analyse(model, question, steps, gold="7", settings=settings, group=2)
    for step in report.steps:
        print(step.text.strip(), "S", step.S and round(step.S.value, 3))

"""The step reward as other trainers call it: what a completion earns, and where its tokens lie."""

import dataclasses

import numpy as np
import pytest

from gccpo_jax.analysis.report import Estimate, StepReport, TrajectoryReport
from gccpo_jax.analysis.step_reward import (
    LIGHT,
    gated_effect,
    reward_of,
    spread,
    step_reward,
    token_advantages,
)
from gccpo_jax.errors import UserError
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

NOTHING = {field.name: None for field in dataclasses.fields(StepReport)}


def step(effect, robust):
    given = {"D": effect, "R": robust}
    found = {name: None if x is None else Estimate(x, None, None) for name, x in given.items()}
    return StepReport(**NOTHING | {"text": "", "tokens": 1} | found)


def test_a_gain_counts_as_far_as_it_is_robust_a_loss_in_full_and_what_was_not_read_not_at_all():
    steps = [step(0.5, 0.4), step(-0.2, 0.4), step(0.3, None), step(None, 0.9)]
    assert [gated_effect(s) for s in steps] == pytest.approx([0.2, -0.2, 0.3, 0.0])
    report = TrajectoryReport("", "", "7", "7", 1.0, [], None, steps)
    assert reward_of(report, 2.0) == pytest.approx(1.0 + 2.0 * 0.3 / 4)
    nothing = dataclasses.replace(report, outcome=None, steps=[])
    assert reward_of(nothing, 2.0) == 0.0


def test_a_token_has_the_value_of_the_step_in_which_it_ends():
    letters = lambda ids: "".join("abc\n#"[n] for n in ids)  # noqa: E731
    ids = [0, 1, 3, 2, 3, 4]  # ab\n c\n #
    assert spread([1.0, 2.0, 3.0], ["ab\n", "c\n", "#"], ids, letters) == [1, 1, 1, 2, 2, 3]
    assert spread([1.0, 2.0], ["ab\n", "c\n", "#"], ids, letters)[-1] == 2  # merged into the last
    assert spread([], [], [0, 1], letters) == [0.0, 0.0]


def test_a_data_set_without_answers_is_refused():
    reward = step_reward(None, gold="solution")
    with pytest.raises(UserError, match="column 'solution' is not in the data set, it has a, b;"):
        reward(["?"], ["!"], a=[1], b=[2])


@pytest.mark.slow
def test_a_right_solution_earns_more_than_a_wrong_one_and_its_step_is_credited():
    task = chain(ChainConfig(train=4, id=2, ood=2, max_operations=2))
    model = open_model("tiny", task)
    item = task.splits["train"][0]
    right = item.solution
    wrong = right.replace(f"#### {item.answer}", "#### 77")
    columns = {"question": [item.question] * 2, "answer": [item.answer] * 2}
    light = dataclasses.replace(
        LIGHT, counterfactual=dataclasses.replace(LIGHT.counterfactual, latent_arms=0)
    )
    reward = step_reward(model, settings=light)
    good, bad = reward([item.question] * 2, [right, wrong], **columns)
    assert 0.5 < good <= 2.0 and bad < 0.5, (good, bad)
    words = model.solver.tokenizer
    ids = [words.encode(right), words.encode(wrong)]
    tokens = np.zeros((2, max(map(len, ids)) + 3), np.int32)  # padded, as trainers hold them
    mask = np.arange(tokens.shape[1]) < np.array([[len(row)] for row in ids])
    tokens[mask] = sum(ids, [])
    found = token_advantages(model, *columns.values(), tokens, mask, words.decode, light)
    assert found.shape == tokens.shape and not found[~mask].any()
    assert len(set(found[0][mask[0]])) > 1

"""The counterfactual step reward for other trainers: a function of prompts and completions.

    reward = step_reward(open_model("tiny", task))
    GRPOTrainer(..., reward_funcs=reward)            # TRL
    GRPOLearner(..., reward_fns=reward)              # Tunix

A model reads each completion step by step and continues it from every boundary; a completion earns

    r = outcome + weight * mean_k g_k,     g_k = R_k D_k where D_k > 0, else D_k

with D_k the effect of step k on the chance of the right answer and R_k its robustness (1 where it
was not read). The reader is any model, the one that trains at an earlier time or another; it does
not change while the trainer runs.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gccpo_jax.analysis.library import Query, analyse_batch, make_item, split_steps
from gccpo_jax.analysis.report import StepReport, TrajectoryReport
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.errors import UserError
from gccpo_jax.sampling.opened import Model

LIGHT = Settings(
    counterfactual=CounterfactualConfig(draws=4, latent_arms=2, surface_arms=0, corrupt_arms=0)
)
"""Four branches per boundary and two arms of noise: what a trainer's step can pay for."""

RewardFn = Callable[..., list[float]]


def step_reward(
    model: Model,
    *,
    weight: float = 1.0,
    question: str = "question",
    gold: str = "answer",
    settings: Settings = LIGHT,
) -> RewardFn:
    """The reward as TRL's `reward_funcs` and Tunix's `reward_fns` take it.

    Args:
      model: who reads, with the task that says how answers are found and checked.
      weight: of the steps beside the outcome.
      question, gold: columns of the data set with the question's text (without one the prompt
        itself is the question) and the right answer.
    Returns:
      `f(prompts, completions, **columns) -> [reward per completion]`; prompts and completions are
      texts or lists of chat messages, of which the last counts.
    Raises:
      UserError: the column with the right answer is not there.
    """

    def counterfactual_step_reward(
        prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float]:
        if columns.get(gold) is None:
            raise UserError(
                f"column {gold!r} is not in the data set, it has {', '.join(sorted(columns))}; "
                "name the one with the right answers (gold=...)"
            )
        asked = columns.get(question)
        texts = [text_of(prompt) for prompt in (prompts if asked is None else asked)]
        answers = [str(answer) for answer in columns[gold]]
        found = read(model, texts, [text_of(c) for c in completions], answers, settings)
        return [reward_of(report, weight) for report in found]

    return counterfactual_step_reward


def read(
    model: Model,
    questions: Sequence[str],
    completions: Sequence[str],
    answers: Sequence[str],
    settings: Settings = LIGHT,
) -> list[TrajectoryReport]:
    """What each step of each completion did; of equal length, one report per completion."""
    task = model.solver.task
    queries = [
        Query(make_item(task, n, asked, gold), tuple(split_steps(task, written)))
        for n, (asked, written, gold) in enumerate(
            zip(questions, completions, answers, strict=True)
        )
    ]
    reports, _ = analyse_batch(model, queries, settings, group=1)
    return [row[0] for row in reports]


def token_advantages(
    model: Model,
    questions: Sequence[str],
    answers: Sequence[str],
    tokens: np.ndarray,
    mask: np.ndarray,
    decode: Callable[[Sequence[int]], str],
    settings: Settings = LIGHT,
) -> np.ndarray:
    """The gated effect g_k of a token's step: [N, T] f32, 0 where the mask is.

    For a trainer that takes advantages per token, beside its own per completion.

    Args:
      questions, answers: N texts.
      tokens: [N, T] completions, ids of the trainer's tokenizer. mask: [N, T], true or 1 on their
        first tokens, up to the end of the completion.
      decode: ids to text, of the trainer's tokenizer; it must leave out special tokens.
    """
    ids = [row[:size].tolist() for row, size in zip(tokens, mask.sum(-1), strict=True)]
    texts = [decode(row) for row in ids]
    found = np.zeros(tokens.shape, np.float32)
    reports = read(model, questions, texts, answers, settings)
    for n, (row, text, report) in enumerate(zip(ids, texts, reports, strict=True)):
        gated = [gated_effect(step) for step in report.steps]
        found[n, : len(row)] = spread(gated, split_steps(model.solver.task, text), row, decode)
    return found


def reward_of(report: TrajectoryReport, weight: float) -> float:
    """Outcome and weighted mean of the gated effects; an outcome that was not scored counts 0."""
    gated = [gated_effect(step) for step in report.steps]
    return (report.outcome or 0.0) + weight * sum(gated) / max(len(gated), 1)


def gated_effect(step: StepReport) -> float:
    """g_k: a gain counts as far as it is robust, a loss in full; 0 where it was not read."""
    effect = step.D.value if step.D else 0.0
    robust = step.R.value if step.R else 1.0
    return effect * robust if effect > 0 else effect


def spread(
    values: Sequence[float], steps: Sequence[str], ids: Sequence[int], decode: Callable[..., str]
) -> list[float]:
    """A value per step as one per token: that of the step in which the token ends.

    Args:
      values: one per step; what comes later has the last one's.
      steps: the text that `decode(ids)` is, cut into steps.

    >>> letters = lambda ids: "".join("ab\\nc"[n] for n in ids)
    >>> spread([1.0, 2.0], ["ab\\n", "c"], [0, 1, 2, 3], letters)
    [1.0, 1.0, 1.0, 2.0]
    """
    if not values:
        return [0.0] * len(ids)
    ends = list(itertools.accumulate(map(len, steps)))
    reach = [len(decode(ids[: n + 1])) for n in range(len(ids))]
    return [values[min(bisect.bisect_left(ends, at), len(values) - 1)] for at in reach]


def text_of(written: Any) -> str:
    """A text, or the last of a list of chat messages."""
    return written if isinstance(written, str) else written[-1]["content"]

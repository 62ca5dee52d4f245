"""Answers to held-out questions, verified: greedy, or several draws of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.outcomes import decode_all, outcomes
from gccpo_jax.sampling.questions import Questions, eval_batches
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.tasks.base import Item
from gccpo_jax.types import Params

GREEDY = Rule(temperature=0.0)
UNSCORABLE = "_unscorable"


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Of the responses that could be scored, and how many could not."""

    mean: float | None  # mean outcome of the scorable ones; None: there is none
    unscorable: float  # share of all responses

    def named(self, name: str) -> dict[str, float | None]:
        """As metrics: `name` and `name_unscorable`."""
        return {name: self.mean, name + UNSCORABLE: self.unscorable}


def scored_accuracy(scores: np.ndarray) -> Accuracy:
    """The accuracy of outcomes of any shape; NaN: unscorable."""
    scored = scores[~np.isnan(scores)]
    mean = float(scored.mean(dtype=np.float64)) if scored.size else None
    return Accuracy(mean, 1 - scored.size / scores.size)


def of_all(found: Mapping[str, float | None], name: str) -> float | None:
    """An accuracy as a share of all responses: what could not be scored counts as wrong.

    >>> of_all({"id": 0.5, "id_unscorable": 0.5}, "id")
    0.25
    """
    value = found.get(name)
    return value if value is None else value * (1 - (found.get(name + UNSCORABLE) or 0.0))


@dataclasses.dataclass(frozen=True)
class Answers:
    """Responses to N questions with their outcomes."""

    items: Sequence[Item]  # N
    texts: np.ndarray  # [N, draws] object
    outcome: np.ndarray  # [N, draws] f32 in [0, 1], NaN where unscorable

    @property
    def accuracy(self) -> Accuracy:
        """Over all questions and draws."""
        return scored_accuracy(self.outcome)

    def where(self, rows: np.ndarray) -> Answers:
        """Those of some questions, bool [N]."""
        items = [item for item, kept in zip(self.items, rows, strict=True) if kept]
        return Answers(items, self.texts[rows], self.outcome[rows])


@dataclasses.dataclass(frozen=True)
class Written(Answers):
    """`Answers` with what writing them took."""

    lengths: np.ndarray  # [N, draws] int tokens, the one that ends a response too
    logp: np.ndarray  # [N, draws] f32 log-probability of the whole response


def respond(solver: Solver, params: Params, questions: Questions, **how: Any) -> Answers:
    """Responses to all questions, verified; `how` as `written` takes it."""
    found = list(written(solver, params, questions, **how))
    texts, scores = ([getattr(part, name) for part in found] for name in ("texts", "outcome"))
    return Answers(questions.items, np.concatenate(texts), np.concatenate(scores))


def written(
    solver: Solver,
    params: Params,
    questions: Questions,
    *,
    rule: Rule,
    draws: int,
    seed: int,
    batch: int,
    max_tokens: int,
) -> Iterator[Written]:
    """`draws` responses to each question, verified, a batch of questions at a time.

    Greedy responses are `rule=GREEDY, draws=1`. Noise is keyed by question id and draw,
    so two policies are compared on the same draws.
    """
    root = jax.random.key(seed)
    for items, prompts, weight in eval_batches(questions, batch):
        keys = noise.question_keys(root, noise.EVALUATION_STEP, prompts.ids)
        _, rollout = sample(
            solver.policy,
            params,
            prompts,
            keys,
            solver.stop,
            group=draws,
            rule=rule,
            max_tokens=max_tokens,
        )
        real, lengths = weight > 0, to_host(rollout.length)
        answers = decode_all(solver.tokenizer, to_host(rollout.tokens), lengths)
        scores = outcomes(solver.task, items, answers)
        kept = [item for item, one in zip(items, real, strict=True) if one]
        total = to_host(rollout.logp).sum(-1, dtype=np.float64)
        yield Written(kept, answers[real], scores[real], lengths[real], total[real])

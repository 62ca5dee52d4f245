"""Accuracy on held-out questions: greedy, and the mean over k samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.outcomes import decode_all, outcomes
from gccpo_jax.sampling.questions import Questions, eval_batches
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.solver import Solver
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


def accuracy(
    solver: Solver,
    params: Params,
    questions: Questions,
    *,
    rule: Rule,
    draws: int,
    seed: int,
    batch: int,
    max_tokens: int,
) -> Accuracy:
    """Mean outcome over `questions` and `draws` responses each.

    Greedy accuracy is `rule=GREEDY, draws=1`. Noise is keyed by question id and draw,
    so two policies are compared on the same draws.
    """
    scores: list[np.ndarray] = []
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
        answers = decode_all(solver.tokenizer, to_host(rollout.tokens), to_host(rollout.length))
        scores.append(outcomes(solver.task, items, answers)[weight > 0])
    return scored_accuracy(np.concatenate(scores))


def scored_accuracy(scores: np.ndarray) -> Accuracy:
    """The accuracy of outcomes of any shape; NaN: unscorable."""
    scored = scores[~np.isnan(scores)]
    mean = float(scored.mean(dtype=np.float64)) if scored.size else None
    return Accuracy(mean, 1 - scored.size / scores.size)


def evaluate_splits(
    solver: Solver, params: Params, splits: Mapping[str, Questions], *, batch: int, max_tokens: int
) -> dict[str, float | None]:
    """Greedy accuracy of each split and the share of its responses that were unscorable."""
    one = partial(accuracy, solver, params, rule=GREEDY, draws=1, seed=0)
    found: dict[str, float | None] = {}
    for name, questions in splits.items():
        batch_size = min(batch, len(questions.items))
        found |= one(questions, batch=batch_size, max_tokens=max_tokens).named(name)
    return found


def in_words(found: Mapping[str, float | None]) -> str:
    """Accuracies in one line; unscorable shares where there are any.

    >>> in_words({"id": 0.5, "id_unscorable": 0.25, "ood": None, "ood_unscorable": 1.0})
    'id 50.0% (unscorable 25.0%)  ood -- (unscorable 100.0%)'
    """
    parts = []
    for name in (name for name in found if not name.endswith(UNSCORABLE)):
        lost = found.get(name + UNSCORABLE) or 0.0
        parts.append(
            f"{name} {percent(found[name])}" + (f" (unscorable {lost:.1%})" if lost else "")
        )
    return "  ".join(parts)


def percent(value: float | None) -> str:
    """`--` where nothing was scored."""
    return "--" if value is None else f"{value:.1%}"

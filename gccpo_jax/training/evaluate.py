"""Accuracy on held-out questions: greedy, and the mean over k samples."""

from __future__ import annotations

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
) -> float:
    """Mean outcome over `questions` and `draws` responses each; unscorable ones are left out.

    Greedy accuracy is `rule=GREEDY, draws=1`. Noise is keyed by question id and draw,
    so two policies are compared on the same draws.
    """
    total, count = 0.0, 0
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
        scores = outcomes(solver.task, items, answers)[weight > 0]
        total += float(np.nansum(scores))
        count += int((~np.isnan(scores)).sum())
    return total / count if count else 0.0


def evaluate_splits(
    solver: Solver, params: Params, splits: Mapping[str, Questions], *, batch: int, max_tokens: int
) -> dict[str, float]:
    """Greedy accuracy of each split."""
    one = partial(accuracy, solver, params, rule=GREEDY, draws=1, seed=0)
    return {
        name: one(questions, batch=min(batch, len(questions.items)), max_tokens=max_tokens)
        for name, questions in splits.items()
    }

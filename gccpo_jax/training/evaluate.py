"""Accuracy on held-out questions: greedy, and the mean over k samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.outcomes import decode_all, outcomes
from gccpo_jax.sampling.questions import Questions, eval_batches
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.training.metrics import checker_metrics, cue_reliance
from gccpo_jax.types import Params

GREEDY = Rule(temperature=0.0)


@dataclasses.dataclass(frozen=True)
class Answers:
    """Responses to N questions with their outcomes."""

    items: Sequence[Item]  # N
    texts: np.ndarray  # [N, draws] object
    outcome: np.ndarray  # [N, draws] f32, NaN where unscorable

    def accuracy(self) -> float:
        """Mean outcome; unscorable responses are left out."""
        known = np.isfinite(self.outcome)
        return float(self.outcome[known].mean(dtype=np.float64)) if known.any() else 0.0

    def where(self, rows: np.ndarray) -> Answers:
        """Those of some questions, bool [N]."""
        items = [item for item, kept in zip(self.items, rows, strict=True) if kept]
        return Answers(items, self.texts[rows], self.outcome[rows])


def respond(
    solver: Solver,
    params: Params,
    questions: Questions,
    *,
    rule: Rule,
    draws: int,
    seed: int,
    batch: int,
    max_tokens: int,
) -> Answers:
    """`draws` responses to each question, verified.

    Greedy responses are `rule=GREEDY, draws=1`. Noise is keyed by question id and draw,
    so two policies are compared on the same draws.
    """
    texts, scores = [], []
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
        texts.append(answers[weight > 0])
        scores.append(outcomes(solver.task, items, answers)[weight > 0])
    return Answers(questions.items, np.concatenate(texts), np.concatenate(scores))


def evaluate_splits(
    solver: Solver, params: Params, splits: Mapping[str, Questions], *, batch: int, max_tokens: int
) -> dict[str, float]:
    """Greedy accuracy of each split; of one in several wordings also `by_wording`, and
    `cue_reliance` where a cue has splits of its own.
    """
    found: dict[str, float] = {}
    details: dict[str, float] = {}
    for name, questions in splits.items():
        size = min(batch, len(questions.items))
        answers = respond(
            solver,
            params,
            questions,
            rule=GREEDY,
            draws=1,
            seed=0,
            batch=size,
            max_tokens=max_tokens,
        )
        found[name] = answers.accuracy()
        details |= {f"{name}/{key}": x for key, x in by_wording(solver.task, answers).items()}
    return found | cue_reliance(found) | details


def by_wording(task: Task, answers: Answers) -> dict[str, float]:
    """Accuracy and share of direct answers in each wording, if the items say which they have.

    `accuracy_<wording>` and `direct_<wording>` by `meta["wording"]`, and `steps_sound` of all;
    without a checker only the accuracies.
    """
    if any("wording" not in item.meta for item in answers.items):
        return {}
    wording = np.array([item.meta["wording"] for item in answers.items])
    found: dict[str, float] = {}
    for each in np.unique(wording):
        part = answers.where(wording == each)
        found[f"accuracy_{each}"] = part.accuracy()
        ways = checker_metrics(task, part.items, part.texts, part.outcome)
        if "direct" in ways:
            found[f"direct_{each}"] = ways["direct"]
    ways = checker_metrics(task, answers.items, answers.texts, answers.outcome)
    return found | {key: ways[key] for key in ("steps_sound",) if key in ways}

"""Outcomes on held-out questions: greedy, and over k samples; their mean is the accuracy."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import is_first, to_host
from gccpo_jax.runtime.workdir import write_text, writing
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


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What a policy made of the questions of a split."""

    items: tuple[int, ...]  # Q ids
    templates: tuple[str, ...]  # Q: what a question keeps when names and numbers are drawn anew
    scores: np.ndarray  # [Q, draws] f32 in [0, 1]; NaN: could not be scored

    @property
    def accuracy(self) -> Accuracy:
        """Of all responses."""
        return scored_accuracy(self.scores)


def answer_questions(
    solver: Solver,
    params: Params,
    questions: Questions,
    *,
    rule: Rule,
    draws: int,
    seed: int,
    batch: int,
    max_tokens: int,
) -> Outcomes:
    """Outcomes of `questions` with `draws` responses each.

    Greedy ones are those of `rule=GREEDY, draws=1`. Noise is keyed by question id and draw,
    so two policies are compared on the same draws.
    """
    root = jax.random.key(seed)
    scores = []
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
    return Outcomes(
        items=tuple(item.id for item in questions.items),
        templates=tuple(str(item.meta.get("template", "")) for item in questions.items),
        scores=np.concatenate(scores),
    )


def scored_accuracy(scores: np.ndarray) -> Accuracy:
    """The accuracy of outcomes of any shape; NaN: unscorable."""
    scored = scores[~np.isnan(scores)]
    mean = float(scored.mean(dtype=np.float64)) if scored.size else None
    return Accuracy(mean, 1 - scored.size / scores.size)


def greedy_outcomes(
    solver: Solver, params: Params, splits: Mapping[str, Questions], *, batch: int, max_tokens: int
) -> dict[str, Outcomes]:
    """Greedy outcomes of each split."""
    one = partial(answer_questions, solver, params, rule=GREEDY, draws=1, seed=0)
    return {
        name: one(questions, batch=min(batch, len(questions.items)), max_tokens=max_tokens)
        for name, questions in splits.items()
    }


def write_outcomes(workdir: pathlib.Path, step: int, found: Mapping[str, Outcomes]) -> None:
    """Writes `evaluation/step_<n>.jsonl`: a line per split with the score of every question.

    The score of a question is the mean over its draws; null where none could be scored. All
    processes call it, the first one writes.

    Raises:
      UserError: it could not be written.
    """
    if not is_first():
        return
    directory = workdir / "evaluation"
    with writing("the evaluation", directory):
        directory.mkdir(exist_ok=True)
        lines = "".join(_line(name, split) + "\n" for name, split in found.items())
        write_text(directory / f"step_{step:06d}.jsonl", lines)


def _line(name: str, found: Outcomes) -> str:
    known = ~np.isnan(found.scores)
    total = np.where(known, found.scores, 0.0).sum(1, dtype=np.float64)
    scores = [
        round(float(t / n), 6) if n else None for t, n in zip(total, known.sum(1), strict=True)
    ]
    whole = [int(x) if x in (0, 1) else x for x in scores]  # 0 and 1 for 0.0 and 1.0
    row = {"split": name, "items": found.items, "templates": found.templates, "scores": whole}
    return json.dumps(row, separators=(",", ":"))


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

"""Answers to held-out questions: greedy, and over k samples; what they say in numbers."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
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
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.training.metrics import checker_metrics, cue_reliance
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


def greedy_answers(
    solver: Solver, params: Params, splits: Mapping[str, Questions], *, batch: int, max_tokens: int
) -> dict[str, Answers]:
    """Greedy responses to each split."""
    one = partial(respond, solver, params, rule=GREEDY, draws=1, seed=0, max_tokens=max_tokens)
    return {
        name: one(questions, batch=min(batch, len(questions.items)))
        for name, questions in splits.items()
    }


def evaluation_metrics(task: Task, found: Mapping[str, Answers]) -> dict[str, float | None]:
    """Accuracy of each split and the share of its responses that were unscorable.

    Of a split in several wordings also `by_wording`, as `<split>/<name>`, and `<cue>_reliance`
    where a cue has splits of its own.
    """
    means: dict[str, float | None] = {}
    details: dict[str, float | None] = {}
    for name, answers in found.items():
        means |= answers.accuracy.named(name)
        details |= {f"{name}/{key}": x for key, x in by_wording(task, answers).items()}
    known = {name: x for name, x in means.items() if x is not None}
    return means | cue_reliance(known) | details


def by_wording(task: Task, answers: Answers) -> dict[str, float | None]:
    """Accuracy and share of direct answers in each wording, if the items say which they have.

    `accuracy_<wording>` and `direct_<wording>` by `meta["wording"]`, and `steps_sound` of all;
    without a checker only the accuracies.
    """
    if any("wording" not in item.meta for item in answers.items):
        return {}
    wording = np.array([item.meta["wording"] for item in answers.items])
    found: dict[str, float | None] = {}
    for each in np.unique(wording):
        part = answers.where(wording == each)
        found[f"accuracy_{each}"] = part.accuracy.mean
        ways = checker_metrics(task, part.items, part.texts, part.outcome)
        if "direct" in ways:
            found[f"direct_{each}"] = ways["direct"]
    ways = checker_metrics(task, answers.items, answers.texts, answers.outcome)
    return found | {key: ways[key] for key in ("steps_sound",) if key in ways}


def in_words(found: Mapping[str, float | None]) -> str:
    """Accuracies in one line; unscorable shares where there are any.

    >>> in_words({"id": 0.5, "id_unscorable": 0.25, "ood": None, "ood_unscorable": 1.0})
    'id 50.0% (unscorable 25.0%)  ood -- (unscorable 100.0%)'
    """
    parts = []
    for name in (n for n in found if not n.endswith(UNSCORABLE) and "/" not in n):
        lost = found.get(name + UNSCORABLE) or 0.0
        parts.append(
            f"{name} {percent(found[name])}" + (f" (unscorable {lost:.1%})" if lost else "")
        )
    return "  ".join(parts)


def percent(value: float | None) -> str:
    """`--` where nothing was scored."""
    return "--" if value is None else f"{value:.1%}"


def write_outcomes(workdir: pathlib.Path, step: int, found: Mapping[str, Answers]) -> None:
    """Writes `evaluation/step_<n>.jsonl`: one line per split with the score of every question.

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


def _line(name: str, found: Answers) -> str:
    known = ~np.isnan(found.outcome)
    total = np.where(known, found.outcome, 0.0).sum(1, dtype=np.float64)
    scores = [
        round(float(t / n), 6) if n else None for t, n in zip(total, known.sum(1), strict=True)
    ]
    row = {
        "split": name,
        "items": [item.id for item in found.items],
        # What a question keeps when names and numbers are drawn anew.
        "templates": [str(item.meta.get("template", "")) for item in found.items],
        "scores": [int(x) if x in (0, 1) else x for x in scores],  # 0 and 1 for 0.0 and 1.0
    }
    return json.dumps(row, separators=(",", ":"))

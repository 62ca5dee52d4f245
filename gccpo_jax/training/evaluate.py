"""What answers to held-out questions say in numbers, during training."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from functools import partial

import numpy as np

from gccpo_jax.runtime.distributed import is_first
from gccpo_jax.runtime.workdir import write_text, writing
from gccpo_jax.sampling.answers import GREEDY, UNSCORABLE, Answers, respond
from gccpo_jax.sampling.questions import Questions
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.tasks.base import Task
from gccpo_jax.training.metrics import checker_metrics, cue_reliance
from gccpo_jax.types import Params


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

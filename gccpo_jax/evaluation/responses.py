"""The results file: a line for each question with its responses, in batches of like length.

    {"split", "id", "name", "question", "answer", "meta", "prompt_tokens",
     "greedy": {"text", "answer", "outcome", "tokens", "logp"}, "draws": [the same, ...]}

and "beam": of a search the same with the tokens that it took, "spent" and "again" (`beam.py`).
The order and the batches are a function of the questions alone, and a batch is written at once. So
a file that was broken off is cut to its whole batches and goes on to the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.evaluation.beam import Asking, Beam, answers
from gccpo_jax.evaluation.judged import Scores
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.progress import Bar
from gccpo_jax.runtime.workdir import writing
from gccpo_jax.sampling.answers import GREEDY, Written, written
from gccpo_jax.sampling.opened import Model
from gccpo_jax.sampling.outcomes import verified
from gccpo_jax.sampling.questions import Questions, round_up
from gccpo_jax.tasks.base import Item, Task

FILE = "responses.jsonl"


@dataclasses.dataclass(frozen=True)
class Asked:
    """What every response is a function of, beside the model and the questions."""

    rule: Rule = Rule()  # of the draws
    draws: int = 0  # responses to each question beside the greedy one
    seed: int = 0
    max_tokens: int = 256
    batch: int = 16  # responses in memory at once
    beam: Beam | None = None  # a search beside them


@dataclasses.dataclass(frozen=True)
class Batch:
    """Questions of one split that are answered together."""

    split: str
    questions: Questions  # padded to the longest of them


def batches(splits: Mapping[str, Questions], size: int) -> list[Batch]:
    """Every question once, the longest prompts of a split first."""
    found = []
    for split, questions in splits.items():
        order = sorted(range(len(questions.items)), key=lambda n: (-len(questions.tokens[n]), n))
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            longest = max(len(questions.tokens[row]) for row in rows)
            part = dataclasses.replace(
                questions,
                items=tuple(questions.items[row] for row in rows),
                tokens=tuple(questions.tokens[row] for row in rows),
                width=min(round_up(longest), questions.width),
            )
            found.append(Batch(split, part))
    return found


def answer_all(
    model: Model,
    splits: Mapping[str, Questions],
    asked: Asked,
    file: pathlib.Path,
    scores: Scores | None = None,
) -> None:
    """Answers every question and writes the results file, from where it stands.

    Args: scores: of steps, for a beam that they guide.

    Raises:
      UserError: the file holds other questions, or cannot be written.
    """
    plan = batches(splits, asked.batch)
    done = _kept(file, plan)
    total = sum(len(batch.questions.items) for batch in plan)
    with Bar("questions", total) as bar, writing("responses", file), file.open("a") as lines:
        bar.advance(sum(len(batch.questions.items) for batch in plan[:done]))
        for batch in plan[done:]:
            lines.write("".join(_answered(model, batch, asked, scores)))
            lines.flush()
            bar.advance(len(batch.questions.items))


def _kept(file: pathlib.Path, plan: Sequence[Batch]) -> int:
    """How many batches the file holds; what is behind them is cut off."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    lines = text.splitlines(keepends=True)
    lines = lines if text.endswith("\n") else lines[:-1]
    done = kept = 0
    for batch in plan:
        names = [(batch.split, item.id) for item in batch.questions.items]
        there = lines[kept : kept + len(names)]
        if len(there) < len(names):
            break
        if [(row["split"], row["id"]) for row in map(json.loads, there)] != names:
            raise UserError(f"{file}: holds answers to other questions; choose another --out")
        done, kept = done + 1, kept + len(names)
    if done == len(plan) and len(lines) > kept:
        raise UserError(f"{file}: holds answers to more questions; choose another --out")
    if (whole := "".join(lines[:kept])) != text:
        file.write_text(whole, encoding="utf-8")
    return done


def _answered(model: Model, batch: Batch, asked: Asked, scores: Scores | None) -> list[str]:
    """The lines of a batch."""

    def ask(rule: Rule, draws: int, size: int) -> list[Written]:
        return list(
            written(
                model.solver,
                model.params,
                batch.questions,
                rule=rule,
                draws=draws,
                seed=asked.seed,
                batch=size,
                max_tokens=asked.max_tokens,
            )
        )

    greedy = _responses(model.solver.task, ask(GREEDY, 1, asked.batch))
    drawn: list[list[dict]] = [[] for _ in greedy]
    if asked.draws:
        size = max(asked.batch // asked.draws, 1)
        drawn = _responses(model.solver.task, ask(asked.rule, asked.draws, size))
    searched: list[dict] = [{} for _ in greedy]
    if asked.beam:
        searched = [{"beam": found} for found in _searched(model, batch, asked, scores)]
    questions = batch.questions
    rows = zip(questions.items, questions.tokens, greedy, drawn, searched, strict=True)
    return [
        json.dumps(_row(batch.split, item, len(prompt), one[0], more) | found) + "\n"
        for item, prompt, one, more, found in rows
    ]


def _searched(model: Model, batch: Batch, asked: Asked, scores: Scores | None) -> list[dict]:
    """The response of the beam to each question."""
    assert asked.beam is not None
    asking = Asking(model, batch.questions, asked.rule, asked.seed, asked.max_tokens, asked.batch)
    best, spent = answers(asking, asked.beam, scores)
    task, found = model.solver.task, []
    for n, (item, prefix) in enumerate(zip(batch.questions.items, best, strict=True)):
        text = asking.text(prefix)
        outcome = verified(task, item, text)
        response = _response(task, item, text, outcome, len(prefix.tokens), prefix.logp)
        cost = {"spent": int(spent.tokens[n]), "again": int(spent.again[n])}
        found.append(response | cost)
    return found


def _responses(task: Task, found: Sequence[Written]) -> list[list[dict]]:
    return [
        [_drawn(task, part, n, draw) for draw in range(part.texts.shape[1])]
        for part in found
        for n in range(len(part.items))
    ]


def _drawn(task: Task, part: Written, n: int, draw: int) -> dict[str, Any]:
    outcome, size = float(part.outcome[n, draw]), int(part.lengths[n, draw])
    known = None if np.isnan(outcome) else outcome
    text, logp = part.texts[n, draw], float(part.logp[n, draw])
    return _response(task, part.items[n], text, known, size, logp)


def _response(
    task: Task, item: Item, text: str, outcome: float | None, tokens: int, logp: float
) -> dict[str, Any]:
    return {
        "text": text,
        "answer": task.answer_of(item, text),
        "outcome": outcome,
        "tokens": tokens,
        "logp": round(logp, 4),
    }


def _row(split: str, item: Item, prompt: int, greedy: dict, draws: list[dict]) -> dict[str, Any]:
    plain = {k: x for k, x in item.meta.items() if isinstance(x, (str, int, float))}
    return {
        "split": split,
        "id": item.id,
        "name": str(plain.pop("id", item.id)),
        "question": item.question,
        "answer": item.answer,
        "meta": plain,
        "prompt_tokens": prompt,
        "greedy": greedy,
        "draws": draws,
    }


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of the results file in a folder.

    Raises:
      UserError: there is none, or it was broken off.
    """
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"{folder}: no {FILE} in it; give the --out of an evaluation")
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise UserError(f"{file}: broken off; finish that evaluation with --resume") from None

"""Rollouts for people and for tools: text, steps, scores and advantages of a few questions."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.runtime.distributed import is_first, to_host
from gccpo_jax.runtime.workdir import write_text, writing
from gccpo_jax.sampling.outcomes import step_texts
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.experience import Experience


def write_rollouts(
    workdir: pathlib.Path,
    step: int,
    experience: Experience,
    tokenizer: Tokenizer,
    questions: int,
) -> None:
    """Writes `rollouts/step_<n>.jsonl` (a line per trajectory) and the same as text.

    All processes call it, the first one writes.

    Raises:
      UserError: they could not be written.
    """
    directory = workdir / "rollouts"
    items, group = experience.items, experience.texts.shape[1]
    shown = {
        name: getattr(experience, name) for name in ("rollout", "advantage", "spans", "credit")
    }
    experience = dataclasses.replace(experience, **jax.tree.map(to_host, shown))
    if not is_first():
        return
    rows = [
        describe(items[b], experience, tokenizer, b, g)
        for b in range(min(questions, len(items)))
        for g in range(group)
    ]
    name = f"step_{step:06d}"
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with writing("rollouts", directory):
        directory.mkdir(exist_ok=True)
        write_text(directory / f"{name}.jsonl", lines)
        write_text(directory / f"{name}.txt", "\n".join(map(render, rows)))


def describe(item: Item, experience: Experience, tokenizer: Tokenizer, b: int, g: int) -> dict:
    """One trajectory as a JSON-able record; `steps` are the pieces that share a credit."""
    outcome = float(experience.outcome[b, g])
    row: dict[str, Any] = {
        "question_id": item.id,
        "question": item.question,
        "gold": item.answer,
        "trajectory": g,
        "text": experience.texts[b, g],
        "outcome": None if np.isnan(outcome) else outcome,
        "tokens": int(experience.rollout.length[b, g]),
        "finished": bool(experience.rollout.stopped[b, g]),
        "advantage": float(np.asarray(experience.advantage[b, g]).sum()),
    }
    if experience.spans is not None and experience.credit is not None:
        row["steps"] = _steps(experience, tokenizer, b, g)
    return row


def _steps(experience: Experience, tokenizer: Tokenizer, b: int, g: int) -> list[dict]:
    spans, credit = experience.spans, experience.credit
    kept = np.asarray(spans.mask[b, g])
    starts, ends = np.asarray(spans.start[b, g])[kept], np.asarray(spans.end[b, g])[kept]
    pieces = step_texts(tokenizer, np.asarray(experience.rollout.tokens[b, g]), starts, ends)
    fields = {
        "value_before": credit.value_before,
        "effect": credit.effect,
        "robustness": credit.robustness,
        "gated": credit.gated,
        "advantage": credit.step_advantage,
    }
    values = {name: np.asarray(array[b, g])[kept] for name, array in fields.items()}
    defined = np.asarray(credit.defined[b, g])[kept]
    return [
        {
            "text": piece,
            "tokens": int(ends[k] - starts[k]),
            **{name: float(array[k]) for name, array in values.items()},
            "robustness_measured": bool(defined[k]),
        }
        for k, piece in enumerate(pieces)
    ]


def render(row: dict) -> str:
    """A trajectory for people: each piece with its value before, effect, R and advantage."""
    verdict = {None: "unscorable", 0.0: "wrong", 1.0: "right"}
    outcome = verdict.get(row["outcome"], f"scored {row['outcome']}")
    lines = [
        f"question {row['question_id']}, trajectory {row['trajectory']}: {outcome} "
        f"(gold {row['gold']}, {row['tokens']} tokens)",
        *(f"    {line}" for line in row["question"].strip().splitlines()),
        "",
    ]
    if "steps" not in row:
        lines += [f"  | {line}" for line in row["text"].strip().splitlines()]
        lines += [f"  advantage of every token {row['advantage'] / max(row['tokens'], 1):+.3f}"]
    for step in row.get("steps", []):
        robust = f"{step['robustness']:.2f}" + ("" if step["robustness_measured"] else "*")
        lines.append(
            f"  Phi before {step['value_before']:.2f}   D {step['effect']:+.2f}   R {robust}   "
            f"gated {step['gated']:+.2f}   A {step['advantage']:+.2f}"
        )
        lines += [f"  | {line}" for line in step["text"].strip().splitlines()]
    return "\n".join([*lines, ""])

"""Rollouts for people and for tools: all that a step of the run knew of a few questions."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pathlib
from functools import partial
from typing import Any

import jax
import numpy as np

from gccpo_jax.config import Config
from gccpo_jax.counterfactual.shown import arms_at, number, numbers, on_host
from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.runtime.completions import Completion, verdict
from gccpo_jax.runtime.distributed import is_first, to_host
from gccpo_jax.runtime.workdir import write_bytes, write_text, writing
from gccpo_jax.sampling.outcomes import step_texts
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.training.experience import Experience
from gccpo_jax.training.metrics import flawed, step_labels
from gccpo_jax.training.rollout_record import VERSION, Branch, Step, Tokens, Trajectory

_ON_DEVICE = ("rollout", "reward", "advantage", "spans", "credit", "reading", "evidence")


def write_rollouts(
    workdir: pathlib.Path, step: int, experience: Experience, solver: Solver, config: Config
) -> list[Trajectory]:
    """Writes `rollouts/step_<n>.jsonl.gz` (a `Trajectory` per line) and the same as text.

    The first `config.log.rollouts` rows of the batch are written. All processes call it, the
    first one writes. Nothing is computed on the device: what was read is copied from it.

    Returns:
      What was written; [] where another process writes.
    Raises:
      UserError: they could not be written.
    """
    directory = workdir / "rollouts"
    group = experience.texts.shape[1]
    shown = {name: getattr(experience, name) for name in _ON_DEVICE}
    if (evidence := shown["evidence"]) is not None:  # not a pytree
        fields = {f.name: getattr(evidence, f.name) for f in dataclasses.fields(evidence)}
        fields["arms"] = {name: on_host(found) for name, found in evidence.arms.items()}
        for name in ("read_spans", "before"):
            fields[name] = jax.tree.map(to_host, fields[name])
        if (written := evidence.written) is not None:
            own = jax.tree.map(to_host, written.branches)
            fields["written"] = dataclasses.replace(written, branches=own)
        shown["evidence"] = dataclasses.replace(evidence, **fields)
    others = {name: x for name, x in shown.items() if name != "evidence"}
    shown |= jax.tree.map(to_host, others)
    experience = dataclasses.replace(experience, **shown)
    if not is_first():
        return []
    rows = [
        describe(experience, solver, config, step, b, g)
        for b in range(min(config.log.rollouts, len(experience.items)))
        for g in range(group)
    ]
    name = f"step_{step:06d}"
    lines = "".join(json.dumps(row, ensure_ascii=False, default=vars) + "\n" for row in rows)
    with writing("rollouts", directory):
        directory.mkdir(exist_ok=True)
        # Without a time: the same command leaves the same bytes.
        write_bytes(directory / f"{name}.jsonl.gz", gzip.compress(lines.encode(), 6, mtime=0))
        write_text(directory / f"{name}.txt", "\n".join(map(render, rows)))
    return rows


def completion(row: Trajectory) -> Completion:
    """A trajectory in a few words, for a terminal and for trackers."""
    steps = row.steps or ()
    whole = ((row.text, row.advantage),)
    return Completion(
        step=row.step,
        question_id=row.question_id,
        question=row.question,
        text=row.text,
        answer=row.answer,
        gold=row.gold,
        outcome=row.outcome,
        reward=row.reward,
        advantage=row.advantage,
        pieces=tuple((step.text, step.advantage) for step in steps) or whole,
    )


def describe(
    experience: Experience, solver: Solver, config: Config, step: int, b: int, g: int
) -> Trajectory:
    """Trajectory `g` of row `b`; arrays of the experience are on the host."""
    item, text = experience.items[b], experience.texts[b, g]
    outcome, reading = experience.outcome[b, g], experience.reading
    evidence, labels = experience.evidence, step_labels(solver.task, item, text)
    laws = evidence is not None and evidence.answers is not None
    quadrant = None
    if labels is not None and np.isfinite(outcome):
        sound = "flawed" if any(flawed(solver.task, labels)) else "sound"
        quadrant = f"{sound}_{'right' if outcome > 0.5 else 'wrong'}"
    return Trajectory(
        version=VERSION,
        step=step,
        row=b,
        question_id=item.id,
        question=item.question,
        gold=item.answer,
        trajectory=g,
        text=text,
        answer=solver.task.answer_of(item, text),
        outcome=number(outcome),
        reward=number(experience.reward[b, g]),
        transported=_of(reading, "transported", b, g),
        equivariance=_of(reading, "equivariance", b, g),
        quadrant=quadrant,
        length=int(experience.rollout.length[b, g]),
        stopped=bool(experience.rollout.stopped[b, g]),
        advantage=number(experience.advantage[b, g].sum()),
        candidates=_candidates(evidence.answers[b], config) if laws else None,
        law_before=numbers(evidence.before[b, g]) if laws and evidence.before is not None else None,
        steps=None
        if experience.credit is None
        else _steps(experience, solver, config, b, g, labels),
        tokens=_tokens(experience, solver.tokenizer, b, g),
    )


def _candidates(answers: list[str], config: Config) -> tuple[str, ...]:
    """As many as a law has entries for: "" where there is no candidate."""
    missing = config.counterfactual.max_candidates - len(answers)
    return (*answers, *[""] * missing)


def _steps(
    experience: Experience,
    solver: Solver,
    config: Config,
    b: int,
    g: int,
    labels: list[str] | None,
) -> tuple[Step, ...]:
    spans, credit, reading = experience.spans, experience.credit, experience.reading
    count = int(spans.mask[b, g].sum())
    starts, ends = spans.start[b, g, :count], spans.end[b, g, :count]
    pieces = step_texts(solver.tokenizer, experience.rollout.tokens[b, g], starts, ends)
    own_labels = _labels_of(pieces, labels, solver.task.boundary)
    draws = _draws(experience, config, b, g, count)
    has_laws = experience.evidence.answers is not None
    found = []
    for k in range(count):
        at = partial(_at, credit, index=(b, g, k))
        before, effect = at("value_before"), at("effect")
        found.append(
            Step(
                text=pieces[k],
                start=int(starts[k]),
                end=int(ends[k]),
                labels=own_labels[k],
                value_before=before,
                draws_before=draws[k],
                value_after=number(before + effect),
                draws_after=draws[k + 1],
                effect=effect,
                robustness=at("robustness"),
                robustness_measured=bool(credit.defined[b, g, k]),
                gated=at("gated"),
                sensitivity=at("sensitivity") if credit.content_defined[b, g, k] else None,
                selectivity=at("selectivity") if credit.selective_defined[b, g, k] else None,
                rewritten_robustness=_of(reading, "step_robustness", b, g, k),
                readable=bool(credit.readable[b, g, k]),
                score=at("step_score"),
                advantage=at("step_advantage"),
                law=numbers(reading.factual[b, g, k]) if has_laws else None,
                arms=arms_at(experience.evidence.arms, solver.tokenizer, b, g, k),
                branches=_branches(experience, solver, b, g, k),
            )
        )
    return tuple(found)


def _labels_of(
    pieces: list[str], labels: list[str] | None, boundary: str
) -> list[tuple[str, ...] | None]:
    """The labels of each piece's lines; None where they cannot be told apart."""
    lines = [sum(bool(line.strip()) for line in piece.split(boundary)) for piece in pieces]
    if labels is None or sum(lines) != len(labels):
        return [None] * len(pieces)
    cuts = np.cumsum([0, *lines])
    return [tuple(labels[a:z]) for a, z in zip(cuts, cuts[1:], strict=False)]


def _draws(experience: Experience, config: Config, b: int, g: int, count: int) -> list[int]:
    """How many draws Phi is the mean of: before the first step, and after each."""
    if config.counterfactual.value == "scored" and experience.reading.start is not None:
        return [0] * count + [1]
    same = [item.id == experience.items[b].id for item in experience.items]
    first = int(np.isfinite(experience.outcome[same]).sum())  # the group's rollouts
    if (written := experience.evidence.written) is not None:
        inner = np.isfinite(written.score[b, g, : count - 1]).sum(-1).tolist()
    else:
        arms = config.counterfactual.transport_arms * config.counterfactual.draws
        known = np.isfinite(experience.reading.value[b, g, : count - 1])
        inner = (known * arms).tolist()
    return [first, *inner, 1][: count + 1] if count else []


def _branches(experience: Experience, solver: Solver, b: int, g: int, k: int) -> tuple[Branch, ...]:
    written = experience.evidence.written
    if written is None or k >= int(experience.spans.mask[b, g].sum()) - 1:
        return ()
    prefix = experience.rollout.tokens[b, g, : experience.spans.end[b, g, k]]
    decode = partial(solver.tokenizer.decode, skip_special=True)
    branches = []
    found = written.branches
    for n in range(written.score.shape[-1]):
        own = found.tokens[b, g, k, n, : found.length[b, g, k, n]]
        answer = solver.task.answer_of(experience.items[b], decode([*prefix, *own]))
        branches.append(Branch(decode(own), answer, number(written.score[b, g, k, n])))
    return tuple(branches)


def _tokens(experience: Experience, tokenizer: Tokenizer, b: int, g: int) -> Tokens:
    rollout = experience.rollout
    size = int(rollout.length[b, g])
    ids = rollout.tokens[b, g, :size].tolist()
    return Tokens(
        id=tuple(ids),
        text=token_texts(tokenizer, ids),
        logp=numbers(rollout.logp[b, g, :size]),
        entropy=numbers(rollout.entropy[b, g, :size]),
        advantage=numbers(experience.advantage[b, g, :size]),
    )


def token_texts(tokenizer: Tokenizer, ids: list[int]) -> tuple[str, ...]:
    """What each token adds to the text, specials included.

    Read beside the token before it, since a decoder may put a space between two.
    """
    found = []
    for n, token in enumerate(ids):
        before = tokenizer.decode(ids[n - 1 : n]) if n else ""
        both = tokenizer.decode(ids[max(n - 1, 0) : n + 1])
        found.append(both[len(before) :] if both.startswith(before) else tokenizer.decode([token]))
    return tuple(found)


def _at(record: Any, name: str, index: tuple[int, ...]) -> float | None:
    return number(getattr(record, name)[index])


def _of(record: Any, name: str, *index: int) -> float | None:
    """A number of a field that may not be there."""
    array = getattr(record, name, None)
    return None if array is None else number(array[index])


def render(row: Trajectory) -> str:
    """A trajectory for people: each piece with its value before, effect, R and advantage."""
    lines = [
        f"question {row.question_id}, trajectory {row.trajectory}: {verdict(row.outcome)} "
        f"(gold {row.gold}, {row.length} tokens)",
        *(f"    {line}" for line in row.question.strip().splitlines()),
        "",
    ]
    if row.steps is None:
        lines += [f"  | {line}" for line in row.text.strip().splitlines()]
        lines += [f"  advantage of every token {row.advantage / max(row.length, 1):+.3f}"]
    for step in row.steps or ():
        robust = f"{step.robustness:.2f}" + ("" if step.robustness_measured else "*")
        lines.append(
            f"  Phi before {step.value_before:.2f}   D {step.effect:+.2f}   R {robust}   "
            f"gated {step.gated:+.2f}   A {step.advantage:+.2f}"
        )
        lines += [f"  | {line}" for line in step.text.strip().splitlines()]
    return "\n".join([*lines, ""])

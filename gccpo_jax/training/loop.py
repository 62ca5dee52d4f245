"""The frame of a run's loop, whatever its steps do: evaluate, step, log, save, conclude."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gccpo_jax.config import Config
from gccpo_jax.config.sections import WARM_UP
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.runtime.checkpoints import ACCURACY, damage, ranked
from gccpo_jax.runtime.distributed import broadcast_json, is_first
from gccpo_jax.runtime.log import timed
from gccpo_jax.runtime.timing import traced
from gccpo_jax.runtime.workdir import write_json, writing
from gccpo_jax.sampling.answers import of_all, respond
from gccpo_jax.sampling.questions import TrainBatches
from gccpo_jax.training.evaluate import (
    evaluation_metrics,
    greedy_answers,
    in_words,
    write_outcomes,
)
from gccpo_jax.training.run import Run
from gccpo_jax.training.session import Session


def run_steps(
    config: Config,
    name: str,
    session: Session,
    run: Run,
    batches: TrainBatches,
    workdir: pathlib.Path,
    take: Callable[[int], dict[str, Any]],
) -> dict[str, Any]:
    """The steps that are left, between the evaluations before and after; the summary.

    Args:
      name: of the config, for the summary.
      take: what one step does, by its number; its metrics.
    Raises:
      Preempted: a signal asked for the end.
    """
    before = evaluate_before(config, session, run, workdir)
    after = None
    if not run.first:
        run.log.start(_named(before))
    for step in range(run.first + 1, config.steps + 1):
        start = time.perf_counter()
        is_traced = 0 < step - run.first - WARM_UP <= config.log.profile and is_first()
        with traced(workdir / "profile", step, is_traced):
            metrics = take(step)
        if step == config.steps or (config.eval.every and step % config.eval.every == 0):
            with run.watch("evaluate"):
                after = evaluate(config, session, run, workdir, step)
            metrics |= _named(after)
        run.finish_step(config, step, timed(metrics, run.watch.lap(), start), batches)
    if after is None:  # a run that was finished, or ended before it had a summary
        after = evaluate(config, session, run, workdir, config.steps)
    return conclude(config, name, session, run, workdir, before, after)


def evaluate_before(
    config: Config, session: Session, run: Run, workdir: pathlib.Path
) -> dict[str, float | None]:
    """The evaluation before training, kept for a run that resumes."""
    file = workdir / "before.json"
    if known := broadcast_json(lambda: json.loads(file.read_text()) if file.exists() else None):
        return known
    asked = sum(len(questions.items) for questions in session.evaluation.values())
    run.log.say(f"accuracy of {asked} held-out questions before training; programs compile first")
    before = evaluate(config, session, run, workdir, 0)
    with writing("the evaluation", file):
        broadcast_json(lambda: write_json(file, before))
    return before


def _named(found: dict[str, float | None]) -> dict[str, float | None]:
    """An evaluation as metrics `eval/<split>`."""
    return {f"eval/{split}": value for split, value in found.items()}


def evaluate(
    config: Config, session: Session, run: Run, workdir: pathlib.Path, step: int
) -> dict[str, float | None]:
    """What greedy answers to every split say, and `id_mean@k` if `eval.draws` asks for it.

    The outcome of every question is left in `evaluation/step_<n>.jsonl`.
    """
    max_tokens = config.eval.max_tokens or config.sampling.max_tokens
    solver, params = session.solver, run.params
    answers = greedy_answers(
        solver, params, session.evaluation, batch=config.eval.batch, max_tokens=max_tokens
    )
    found = evaluation_metrics(solver.task, answers)
    if config.eval.draws:
        name = f"id_mean@{config.eval.draws}"
        answers[name] = respond(
            solver,
            params,
            session.evaluation["id"],
            rule=behaviour_rule(config.sampling),
            draws=config.eval.draws,
            seed=config.seed,
            batch=max(config.eval.batch // config.eval.draws, 1),
            max_tokens=max_tokens,
        )
        found |= answers[name].accuracy.named(name)
    write_outcomes(workdir, step, answers)
    run.log.say(f"accuracy  {in_words(found)}")
    return found


def conclude(
    config: Config,
    name: str,
    session: Session,
    run: Run,
    workdir: pathlib.Path,
    before: dict[str, float | None],
    after: dict[str, float | None],
) -> dict[str, Any]:
    """Writes what a finished run leaves; the summary."""
    summary = {"before": before, "after": after, "steps": config.steps, "config": name}
    if config.checkpoint.keep_best:
        summary["best"] = best_checkpoint(config, run, workdir, of_all(after, "id"))
    return run.finish(config, session, workdir, summary)


def best_checkpoint(
    config: Config, run: Run, workdir: pathlib.Path, after: float | None
) -> dict[str, Any] | None:
    """The best whole checkpoint, logged and for the summary; `after`: accuracy of the last one."""
    accuracies = run.checkpoints.accuracies() | {config.steps: after}
    for step in ranked(accuracies):
        folder = workdir / "checkpoints" / str(step)
        if what := broadcast_json(partial(damage, folder)):
            run.log.say(f"checkpoint {step} is damaged ({what})")
            continue
        run.log.say(f"best checkpoint: {folder}, {ACCURACY} {accuracies[step]:.1%}")
        return {"step": step, "id": accuracies[step], "checkpoint": f"checkpoints/{step}"}
    return None

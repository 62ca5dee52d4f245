"""Trains a step scorer on a policy's own branches: a process reward model without labels.

    python -m gccpo_jax.prm --model tiny --task chain --out runs/prm
    python -m gccpo_jax.train --config configs/quickstart.py:process \\
        --config.reward.process=prm:runs/prm

Samples solutions, continues each step N times, and fits a head of two classes on the policy's
hidden states at the ends of steps to the shares that end right. DIR is then a model like any other
process reward model, with its layout in prm.json. For a task with a checker of steps the last
lines say how well the head, the branches and the log-probability tell sound steps from flawed ones
on questions that it was not trained on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gccpo_jax.analysis.settings import Settings
from gccpo_jax.analysis.step_statistics import stratified_auc
from gccpo_jax.analysis.step_values import Solution, agree, in_batches, solutions
from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.policy import weights
from gccpo_jax.policy.fit_head import fit_head
from gccpo_jax.policy.length_bias import length_bias, words
from gccpo_jax.policy.locate import locate
from gccpo_jax.policy.step_scorer import FILE, Layout, StepScorer, open_scorer
from gccpo_jax.runtime.cli import check_ranges, command_parser
from gccpo_jax.runtime.workdir import output_path, write_json
from gccpo_jax.sampling.opened import Model, open_model
from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.base import Task
from gccpo_jax.tasks.checking.user import load_process


def layout_of(task: Task) -> Layout:
    """Steps that end as the policy ends them, after the question as a chat or plainly."""
    return Layout(mark=task.boundary, chat=task.chat, system=task.system or "", opened="\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = command_parser("prm", __doc__)
    out.add_argument("--model", default="tiny", help="tiny, smollm2, a directory, an id")
    out.add_argument("--task", default="chain", help="chain, gsm8k, math")
    out.add_argument("--data", default="", metavar="FILE", help="training questions of the task")
    out.add_argument("--out", required=True, help="directory of the process reward model")
    out.add_argument("--questions", type=int, default=512, help="whose solutions are learned from")
    out.add_argument("--held-out", type=int, default=128, help="the scorer is measured on these")
    out.add_argument("--group", type=int, default=4, help="solutions of each question")
    out.add_argument("--draws", type=int, default=4, help="N branches from each step")
    out.add_argument("--max-tokens", type=int, default=64, help="of a solution")
    out.add_argument("--batch", type=int, default=32, help="questions at a time")
    out.add_argument("--updates", type=int, default=1000, help="of the head")
    out.add_argument("--lr", type=float, default=1e-3, help="of the head")
    out.add_argument("--seed", type=int, default=0)
    out.add_argument(
        "--judge",
        default="",
        metavar="MODULE:FUNCTION",
        help="second opinion: solutions stay if it finds the first wrong step where branches do",
    )
    out.add_argument(
        "--debias",
        action="store_true",
        help="take off what the head pays for a step that is said twice (policy/length_bias.py)",
    )
    out.add_argument(
        "--invariance",
        type=float,
        default=0.0,
        help="weight of the penalty that scores must not follow the length of a step",
    )
    return out


_LEAST = {"questions": 1, "held_out": 0, "group": 2, "draws": 1, "max_tokens": 2, "batch": 1}
_LEAST |= {"updates": 1, "seed": 0, "lr": 1e-12, "invariance": 0}


def run_command(argv: Sequence[str]) -> dict[str, Any]:
    """Collects, fits, writes and measures; the summary.

    Raises:
      UserError: arguments out of range, no such model or task, or too few questions.
    """
    a = parser().parse_args(argv)
    check_ranges(a, _LEAST)
    out, judge = output_path(a.out), load_process(a.judge)
    task = load_task(a.task, **({"path": a.data} if a.data else {}))
    model = open_model(a.model, task)
    items = task.splits["train"]
    if len(items) < a.questions + a.held_out:
        raise UserError(
            f"--questions {a.questions} and --held-out {a.held_out}: task {a.task!r} has "
            f"{len(items)} training questions; ask for fewer"
        )
    section = CounterfactualConfig(draws=a.draws)
    settings = Settings(seed=a.seed, max_tokens=a.max_tokens, counterfactual=section)
    collect = partial(solutions, model, settings=settings, group=a.group)
    learned, tokens = in_batches(collect, items[: a.questions], a.batch)
    kept = learned
    if judge is not None:
        kept = [s for s in learned if agree(s.value, judge(s.item.question, s.steps))]
        if not kept:
            raise UserError(f"--judge {a.judge}: it agrees with the branches on no solution")
    scorer = trained(model, a, kept)
    if a.debias:
        slope, usual = length_bias(scorer.many, [(s.item.question, s.steps) for s in kept])
        layout = dataclasses.replace(scorer.layout, length_slope=slope, usual_length=usual)
        scorer = dataclasses.replace(scorer, layout=layout)
    save(a.model, out, scorer)
    summary: dict[str, Any] = {
        "solutions": len(learned),
        "kept": len(kept),
        "branch_tokens": tokens,
        "steps": sum(len(s.steps) for s in kept),
    }
    if a.held_out:
        held = items[a.questions : a.questions + a.held_out]
        unseen, _ = in_batches(collect, held, a.batch)
        summary |= measured(model, open_scorer(str(out)), unseen)
    write_json(out / "summary.json", summary)
    for name, value in summary.items():
        print(f"{name:>16}  {value if isinstance(value, (int, dict)) else round(value, 4)}")
    print(json.dumps(summary))
    return summary


def trained(model: Model, a: argparse.Namespace, learned: Sequence[Solution]) -> StepScorer:
    """The scorer whose head is fitted to the values of these solutions."""
    solver = model.solver
    layout = layout_of(solver.task)
    blank = StepScorer(solver.policy, model.params, (), solver.tokenizer, layout, model.context)
    hidden = np.concatenate(blank.states([(s.item.question, s.steps) for s in learned]))
    target = np.concatenate([s.value for s in learned])
    length = np.concatenate([[words(step) for step in s.steps] for s in learned])
    known = np.isfinite(hidden).all(-1) & np.isfinite(target)
    cuts = np.quantile(length[known], [0.25, 0.5, 0.75])
    head = fit_head(
        hidden[known],
        target[known],
        seed=a.seed,
        updates=a.updates,
        lr=a.lr,
        bins=np.searchsorted(cuts, length[known]).astype(np.int32),
        invariance=a.invariance,
    )
    return dataclasses.replace(blank, head=head)


def save(name: str, out: Any, scorer: StepScorer) -> None:
    """Writes the model's directory with the head's tensors, and how it is asked."""
    arch = weights.read_arch(locate(name))
    head = {}
    for place, (matrix, bias) in zip((0, 2), scorer.head, strict=True):
        head[f"score.{place}.weight"] = np.asarray(matrix)
        head[f"score.{place}.bias"] = np.asarray(bias)
    weights.save(out, arch, scorer.params, scorer.tokenizer, extra=head)
    write_json(out / FILE, dataclasses.asdict(scorer.layout))


def measured(
    model: Model, scorer: StepScorer, unseen: Sequence[Solution]
) -> dict[str, float | dict[str, list[float]]]:
    """How well scores foresee branches, and the checker's labels where the task has them."""
    scores = scorer.many([(s.item.question, s.steps) for s in unseen])
    p, value = np.concatenate(scores), np.concatenate([s.value for s in unseen])
    both = np.isfinite(p) & np.isfinite(value)
    found: dict[str, Any] = {
        "correlation": float(np.corrcoef(p[both], value[both])[0, 1]),
        "squared_error": float(np.mean((p - value)[both] ** 2)),
        "squared_error_of_mean": float(np.var(value[both])),
    }
    check = model.solver.task.check
    if check is None:
        return found
    labels = np.array([x for s in unseen for x in check(s.item, s.steps)], object) == "valid"
    question = np.array([s.item.id for s in unseen for _ in s.steps])
    step = np.array([k for s in unseen for k in range(len(s.steps))])
    columns = {
        "prm": p,
        "prm_gain": np.concatenate(
            [np.diff(x, prepend=s.before) for x, s in zip(scores, unseen, strict=True)]
        ),
        "phi": value,
        "phi_gain": np.concatenate([np.diff(s.value, prepend=s.before) for s in unseen]),
        "logprob": np.concatenate([s.logp for s in unseen]),
    }
    for name, x in columns.items():
        auc = stratified_auc(x, labels, question, step)
        found[f"auc_{name}"] = {"estimate": auc.estimate, "interval": [auc.low, auc.high]}
    return found


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: run_command(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

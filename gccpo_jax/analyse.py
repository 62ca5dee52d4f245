"""What each step of a solution did to its answer, for a file of questions or of solutions.

    python -m gccpo_jax.analyse --model smollm2 --task gsm8k --data questions.jsonl --out DIR
    python -m gccpo_jax.analyse --suite chain            (the step-credit test, no files)
    python -m gccpo_jax.analyse --suite shortcut --model runs/shortcut/policy
    python -m gccpo_jax.analyse --suite programs --model runs/programs/policy

A row of --data has "question" and, for given solutions, "steps"; "answer", "label" and
"id" are optional. DIR gets trajectories.jsonl, trajectories.txt, summary.json and summary.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import operator
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from gccpo_jax.analysis import files
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.analysis.suites import run
from gccpo_jax.config.fields import is_day, least
from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.policy.chat_template import DATE, Template
from gccpo_jax.runtime.cli import check_ranges, command_parser

FLAGS = {
    "seed": ("seed", "root seed of every draw"),
    "temperature": ("temperature", "of sampling and of branches"),
    "max_tokens": ("max_tokens", "tokens of a sampled trajectory, or of a branch from a given one"),
    "draws": ("counterfactual.draws", "continued branches per boundary"),
    "latent_arms": ("counterfactual.latent_arms", "latent disturbances a step"),
    "latent_sigma": (
        "counterfactual.latent_sigma",
        "their scale, relative to a channel's RMS over the step",
    ),
    "surface_arms": ("counterfactual.surface_arms", "rewrites in other words, if the task can"),
    "corrupt_arms": ("counterfactual.corrupt_arms", "corrupted numbers a step, if the task can"),
    "equivariance_arms": (
        "counterfactual.equivariance_arms",
        "rewrites with other numbers, if the task can",
    ),
    "audit_arms": (
        "audit_arms",
        "resamples (D^cf) and continued corruptions a step; each costs --draws",
    ),
    "max_candidates": ("counterfactual.max_candidates", "candidate answers per question"),
    "max_answer_tokens": (
        "counterfactual.max_answer_tokens",
        "tokens of a candidate, with the one that ends it",
    ),
    "max_steps": ("segmentation.max_steps", "steps of a trajectory; later ones join the last"),
    "min_step_tokens": ("segmentation.min_tokens", "shorter steps are merged"),
    "max_step_tokens": ("segmentation.max_tokens", "longer steps are split; 0 never"),
}
"""Option to its field of `Settings`, and its help."""
_LEAST = {"seed": 0, "temperature": 0, "max_tokens": 1, "audit_arms": 0}
"""Least values of the options that are no field of the config."""

_INJECTED = 6
_JUDGED = ("chain", "programs")
"""Suites that judge steps."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = command_parser("analyse", __doc__)
    out.add_argument("--model", default="tiny", help="tiny, smollm2, a directory, an id, a .gguf")
    out.add_argument("--task", default="chain", help="how answers are read: chain, gsm8k, math")
    out.add_argument(
        "--template",
        default="",
        metavar="JSON",
        help="variables of the chat template, as in the run's data.template",
    )
    out.add_argument("--date", default=DATE, help="the day that it is told, as in data.date")
    out.add_argument("--data", help="JSON Lines of questions or of solutions in steps")
    out.add_argument("--suite", choices=(*run.SUITES,), help="an experiment instead of files")
    out.add_argument(
        "--prm",
        default="",
        metavar="DIR",
        help="--suite chain or programs: a process reward model, one more row",
    )
    out.add_argument("--out", help="directory of the results (default for --suite: docs/results)")
    out.add_argument("--questions", type=int, default=0, help="only the first so many; 0: all")
    out.add_argument("--group", type=int, default=4, help="sampled trajectories per question")
    out.add_argument(
        "--injected",
        type=int,
        default=_INJECTED,
        help="--suite chain or programs: injected ones per question",
    )
    out.add_argument("--batch", type=int, default=8, help="questions in memory at once")
    out.add_argument("--resume", action="store_true", help="go on with the results in --out")
    for name, (path, about) in FLAGS.items():
        default = operator.attrgetter(path)(Settings())
        flag = "--" + name.replace("_", "-")
        out.add_argument(flag, type=type(default), default=None, help=about)
    return out


def settings_of(arguments: argparse.Namespace, default: Settings) -> Settings:
    """The settings with what was asked for.

    Raises:
      UserError: a number out of range.
    """
    asked: dict[str, dict[str, Any]] = {"": {}, "counterfactual": {}, "segmentation": {}}
    for name, (path, _) in FLAGS.items():
        value = getattr(arguments, name)
        if value is None:
            continue
        section, _, field = path.rpartition(".")
        of = getattr(default, section) if section else default
        found = {row.name: row.metadata for row in dataclasses.fields(of)}[field]
        check = found or least(_LEAST[field], None).metadata
        if not (math.isfinite(value) and check["valid"](value)):
            raise UserError(f"--{name.replace('_', '-')} {value}: expected {check['expected']}")
        asked[section][field] = value
    own = asked.pop("")
    sections = {s: dataclasses.replace(getattr(default, s), **new) for s, new in asked.items()}
    return dataclasses.replace(default, **own, **sections)


def template_of(arguments: argparse.Namespace) -> Template:
    """Variables and day of the chat template.

    Raises:
      UserError: not a JSON object, or not a day.
    """
    try:
        found = json.loads(arguments.template or "{}")
    except ValueError as error:
        raise UserError(f"--template {arguments.template}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f'--template {arguments.template}: expected an object, {{"name": value}}')
    if not is_day(arguments.date):
        raise UserError(f"--date {arguments.date}: expected a day as YYYY-MM-DD")
    return Template(found, arguments.date)


def run_command(argv: Sequence[str]) -> None:
    """Does what the arguments ask for.

    Raises:
      UserError: arguments that do not go together, or what the analysis itself refuses.
    """
    a = parser().parse_args(argv)
    check_ranges(a, {"group": 1, "batch": 1, "questions": 0, "injected": 0, "seed": 0})
    given = {"injected": a.injected != _INJECTED, "prm": bool(a.prm)}
    for name in (name for name, one in given.items() if one and a.suite not in _JUDGED):
        raise UserError(
            f"--{name} {getattr(a, name)}: only --suite {' and '.join(_JUDGED)} judge steps; "
            "leave it out"
        )
    if a.suite and a.resume:
        raise UserError("--suite begins anew; leave --resume out")
    if a.latent_arms == 0 and a.latent_sigma:
        raise UserError(
            f"--latent-sigma {a.latent_sigma}: nothing uses it with --latent-arms 0; leave it out"
        )
    if a.suite and a.data:
        raise UserError("--suite makes its own questions; leave --data out")
    if a.suite and (a.template or a.date != DATE):
        raise UserError("--suite has prompts without a chat template; leave --template, --date out")
    if a.suite:
        typed = shlex.join(["python", "-m", "gccpo_jax.analyse", *argv])
        run.run_suite(a, settings_of, typed)
    elif a.data:
        if not a.out:
            raise UserError("--data needs --out: a directory for the results")
        files.analyse_file(a, settings_of(a, Settings()), template_of(a))
    else:
        raise UserError("nothing to analyse: give --data FILE or --suite chain")


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: run_command(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

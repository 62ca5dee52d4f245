"""How good a model is on a file of questions, or on those that a task makes.

    python -m gccpo_jax.evaluate --model runs/a/policy --task gsm8k --data test.jsonl --out DIR
    python -m gccpo_jax.evaluate --model tiny --task chain --split id --draws 8 --out DIR
    python -m gccpo_jax.evaluate ... --out DIR --against OTHER_DIR        (paired, the same draws)

DIR gets responses.jsonl (a line per question with every response), summary.json and summary.md.
The last line on standard output is summary.json in one line. A killed evaluation goes on with
--resume, to the same file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from gccpo_jax.analyse import template_of
from gccpo_jax.config import RewardConfig
from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.evaluation import responses
from gccpo_jax.evaluation.beam import VALUES, Beam
from gccpo_jax.evaluation.judged import scores_of, with_scores
from gccpo_jax.evaluation.paired import check_shared
from gccpo_jax.evaluation.predictions import write_predictions
from gccpo_jax.evaluation.summary import page, summarise
from gccpo_jax.policy.chat_template import DATE
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.cli import check_ranges, command_parser, literal
from gccpo_jax.runtime.workdir import differences, locked, output_path, write_json, write_text
from gccpo_jax.sampling.opened import Model, open_model
from gccpo_jax.sampling.questions import Questions, digest, load_questions
from gccpo_jax.tasks import load_task, read_task
from gccpo_jax.tasks.base import Task
from gccpo_jax.training.process_reward import open_judge

SETTINGS = "settings.json"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = command_parser("evaluate", __doc__)
    out.add_argument("--model", required=True, help="tiny, smollm2, a directory, an id, a .gguf")
    out.add_argument("--task", required=True, help="chain, gsm8k, math, humaneval, ...")
    out.add_argument("--data", nargs="+", default=[], metavar="FILE", help="each is a split")
    out.add_argument("--out", required=True, help="directory of the results")
    out.add_argument("--split", nargs="+", default=[], help="only these (default: all but train)")
    out.add_argument("--questions", type=int, default=0, help="the first so many of each; 0: all")
    out.add_argument("--draws", type=int, default=0, help="K sampled responses beside the greedy")
    out.add_argument("--seed", type=int, default=0, help="root seed of the draws")
    out.add_argument("--temperature", type=float, default=1.0, help="of the draws")
    out.add_argument("--top-k", type=int, default=0, help="of the draws; 0: all tokens")
    out.add_argument("--top-p", type=float, default=1.0, help="of the draws")
    out.add_argument("--max-tokens", type=int, default=256, help="of a response")
    out.add_argument("--batch", type=int, default=16, help="responses in memory at once")
    out.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the task, as config.task.options",
    )
    out.add_argument("--template", default="", metavar="JSON", help="as for analyse")
    out.add_argument("--date", default=DATE, help="as for analyse")
    out.add_argument(
        "--scorer",
        default="",
        metavar="NAME",
        help="of steps, as config.reward.process: prm:DIR, critic:DIR, package.module:function; "
        "chooses of k draws",
    )
    out.add_argument("--beam", type=int, default=0, metavar="W", help="search over steps; 0: none")
    out.add_argument("--beam-steps", type=int, default=4, help="next steps of each of the W")
    out.add_argument("--beam-value", choices=VALUES, default=VALUES[0], help="what guides it")
    out.add_argument("--beam-branches", type=int, default=4, help="of agreement and phi")
    out.add_argument("--against", metavar="DIR", help="another evaluation, to be compared with")
    out.add_argument("--resume", action="store_true", help="go on with the results in --out")
    return out


_LEAST = {"questions": 0, "draws": 0, "seed": 0, "temperature": 0, "top_k": 0}
_LEAST |= {"max_tokens": 1, "batch": 1, "beam": 0, "beam_steps": 1, "beam_branches": 1}


def run_command(argv: Sequence[str]) -> dict[str, Any]:
    """Evaluates, writes and prints; the summary.

    Raises:
      UserError: arguments, questions or results that do not go together.
    """
    a = parser().parse_args(argv)
    _check(a)
    out = output_path(a.out)
    against = _against(a)
    task = open_task(a)
    model = open_model(a.model, task, template=template_of(a))
    splits = {name: _questions(model, name, a) for name in _split_names(a, task)}
    rule = Rule(a.temperature, a.top_k, a.top_p)
    asked = responses.Asked(rule, a.draws, a.seed, a.max_tokens, a.batch, _beam(a))
    judge = open_judge(RewardConfig(process=a.scorer)) if a.scorer else None
    scores = scores_of(judge) if judge else None
    settings = _settings(a, asked, splits)
    if against:
        check_shared(settings, against[1], a.against)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _claim(out, settings, a.resume)
        responses.answer_all(model, splits, asked, out / responses.FILE, scores)
        rows = responses.read(out)
        if scores is not None:
            rows = with_scores(rows, scores, task.boundary)
        other = (a.against, against[0]) if against else None
        summary = summarise(rows, settings, task.same, other)
        write_json(out / "summary.json", summary)
        write_text(out / "summary.md", page(summary))
        if task.harness is not None:
            items = [item for found in splits.values() for item in found.items]
            print(write_predictions(out, rows, items, a.model, task.harness))
    print(page(summary))
    print(f"written: {out / responses.FILE}, summary.json, summary.md")
    print(json.dumps(summary))
    return summary


def _check(a: argparse.Namespace) -> None:
    check_ranges(a, _LEAST)
    if not 0 < a.top_p <= 1:
        raise UserError(f"--top-p {a.top_p}: expected above 0 and at most 1")
    if a.draws > 1 and a.temperature == 0:
        raise UserError("--temperature 0 draws the greedy response each time; leave --draws out")
    if a.beam and a.temperature == 0:
        raise UserError("--temperature 0 writes one next step each time; leave --beam out")
    if a.beam and a.beam_value == "scorer" and not a.scorer:
        raise UserError("--beam-value scorer needs a --scorer, such as prm:DIR")


def _beam(a: argparse.Namespace) -> Beam | None:
    return Beam(a.beam, a.beam_steps, a.beam_value, a.beam_branches) if a.beam else None


def open_task(a: argparse.Namespace) -> Task:
    """The task with the questions of its files, or with its own."""
    pairs = [option.partition("=") for option in a.option]
    if bad := [name for name, equals, _ in pairs if not equals]:
        raise UserError(f"--option {bad[0]}: expected NAME=VALUE")
    options = {name: literal(value) for name, _, value in pairs}
    if not a.data:
        return load_task(a.task, **options)
    names = [pathlib.Path(path).name.partition(".")[0] for path in a.data]
    if len(set(names)) < len(names):
        raise UserError(f"--data: two files are called {max(names, key=names.count)}; rename one")
    return read_task(a.task, dict(zip(names, a.data, strict=True)), **options)


def _split_names(a: argparse.Namespace, task: Task) -> list[str]:
    names = a.split or [name for name in task.splits if name != "train"]
    if unknown := [name for name in names if name not in task.splits]:
        there = ", ".join(sorted(task.splits))
        raise UserError(f"--split {unknown[0]}: task {task.name!r} has {there}")
    return names


def _questions(model: Model, split: str, a: argparse.Namespace) -> Questions:
    room = model.context - a.max_tokens
    if room < 1:
        raise UserError(
            f"--max-tokens {a.max_tokens}: the model's context is {model.context} tokens, which "
            "leaves none for the question; lower it"
        )
    solver = model.solver
    return load_questions(solver.task, split, solver.tokenizer, room, a.questions)


def _settings(
    a: argparse.Namespace, asked: responses.Asked, splits: dict[str, Questions]
) -> dict[str, Any]:
    """All that the results are a function of, fit for JSON."""
    plain = {name: x for name, x in dataclasses.asdict(asked).items() if x is not None}
    if asked.beam and asked.beam.value == "scorer":
        plain["beam"]["scorer"] = a.scorer
    return {
        "model": a.model,
        "task": a.task,
        "options": sorted(a.option),
        "questions": {name: len(found.items) for name, found in splits.items()},
        "prompts": {name: digest(found) for name, found in splits.items()},
        "skipped": {name: found.skipped for name, found in splits.items() if found.skipped},
        **plain.pop("rule"),
        **plain,
    }


def _claim(out: pathlib.Path, settings: dict[str, Any], resume: bool) -> None:
    """Makes the folder this evaluation's, or refuses."""
    file = out / SETTINGS
    if not file.exists():
        if resume:
            raise UserError(f"{out}: nothing to resume; leave --resume out or check --out")
        return write_json(file, settings)
    if found := differences(json.loads(file.read_text()), settings, "settings"):
        raise UserError(f"{out}: holds another evaluation ({found}); choose another --out")
    if not resume:
        raise UserError(f"{out}: holds this evaluation already; add --resume or choose another")


def _against(a: argparse.Namespace) -> tuple[list[dict], dict[str, Any]] | None:
    """Rows and settings of the evaluation to compare with."""
    if not a.against:
        return None
    folder = pathlib.Path(a.against).expanduser()
    rows = responses.read(folder)
    return rows, json.loads((folder / SETTINGS).read_text())


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: run_command(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

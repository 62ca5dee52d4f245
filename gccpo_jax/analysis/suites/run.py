"""The experiments as commands: questions, settings, progress, reports, the last line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gccpo_jax.analysis.library import prompts_of
from gccpo_jax.analysis.settings import COUNTERFACTUAL, Settings
from gccpo_jax.analysis.suites import code_guess, lucky_guess, step_credit
from gccpo_jax.analysis.suites.tables import lucky_guess_table, plot_bars, step_credit_tables, write
from gccpo_jax.config import SegmentationConfig
from gccpo_jax.errors import UserError
from gccpo_jax.policy.step_scorer import open_scorer
from gccpo_jax.runtime.progress import Bar
from gccpo_jax.runtime.workdir import output_path
from gccpo_jax.sampling.opened import Model, open_model
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.tasks.programs.suite import ProgramsConfig, programs

CHAIN = Settings(
    max_tokens=48,
    true_thinking=True,
    counterfactual=dataclasses.replace(
        COUNTERFACTUAL,
        draws=16,
        surface_arms=3,
        corrupt_arms=3,
        max_answer_tokens=3,
        max_candidates=12,
    ),
    segmentation=SegmentationConfig(max_steps=6),
)
SHORTCUT = Settings(
    max_tokens=48,
    audit_arms=4,
    counterfactual=dataclasses.replace(
        COUNTERFACTUAL,
        draws=4,
        latent_arms=0,
        surface_arms=8,
        corrupt_arms=4,
        equivariance_arms=4,
        max_answer_tokens=3,
    ),
    segmentation=SegmentationConfig(max_steps=6),
)
PROGRAMS = Settings(
    max_tokens=64,
    counterfactual=dataclasses.replace(
        COUNTERFACTUAL,
        draws=8,
        latent_arms=0,  # answers are results of tests: no reader is asked for them at once
        surface_arms=0,
        corrupt_arms=0,
        equivariance_arms=0,
        max_answer_tokens=6,
    ),
    segmentation=SegmentationConfig(max_steps=6),
)
# Other seeds than that of the demonstrations of policies: those hold all of its questions.
SUITE = {"seed": 1, "train": 64, "ood": 400, "id": 400, "max_operations": 3}
BODIES = {"seed": 1, "train": 1, "ood": 1, "id": 200, "shown": 1, "hidden": 3}
BODIES |= {"min_statements": 3, "max_statements": 3}


@dataclasses.dataclass(frozen=True)
class _Page:
    """What an experiment has to say; all of it is written by `run_suite`."""

    name: str  # of its files
    title: str
    counts: str  # what was looked at, one sentence's worth
    tables: str
    axis: str
    bars: dict[str, Any]  # {score: {"estimate", "low", "high"}}
    summary: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Suite:
    """One value of `--suite`: whose questions, how much is measured, which pages."""

    task: Callable[[], Task]
    settings: Settings
    splits: tuple[str, ...]  # questions evenly from these
    questions: int
    trained: str  # the config whose policy it looks at
    pages: tuple[Callable[[argparse.Namespace, Suite, Settings, Model, list[Item]], _Page], ...]
    name: str = ""  # of its files, before that of the page
    about: str = ""  # after the pages' titles


def run_suite(a: argparse.Namespace, settings_of: Callable[..., Settings], typed: str) -> None:
    """Runs `--suite NAME` and prints the summary of each of its pages as a last line.

    `typed` is the command as it was given; the pages name it.
    """
    suite = SUITES[a.suite]
    settings = settings_of(a, suite.settings)
    out = output_path(a.out or "docs/results")
    model, items = _open(a, suite)
    for page_of in suite.pages:
        started = time.monotonic()
        page = page_of(a, suite, settings, model, items)
        took = f"It took {(time.monotonic() - started) / 60:.1f} minutes."
        intro = f"`{typed}`: {page.counts}. {took}"
        paths = write(out, page.name, page.title, intro, page.tables, page.summary)
        plot = out / f"{page.name}.png"
        plot_bars(plot, page.title, page.axis, page.bars)
        print("written: " + ", ".join(map(str, [*paths, plot])))
        print(json.dumps(page.summary, sort_keys=True))


def _step_credit(
    a: argparse.Namespace, suite: Suite, settings: Settings, model: Model, items: list[Item]
) -> _Page:
    scorer = open_scorer(a.prm) if a.prm else None
    rows, gates = step_credit.collect_rows(
        model,
        _batches("step credit", items, a.batch),
        settings,
        group=a.group,
        injected=a.injected,
        prompt_tokens=_width(model, items),
        scorer=scorer,
    )
    summary = step_credit.summarise(rows, gates)
    counts, draws = summary["counts"], settings.counterfactual.draws
    looked_at = (
        f"{counts['questions']} held-out questions, {a.group} sampled and "
        f"{a.injected} injected trajectories each ({counts['trajectories']} in all, "
        f"{counts['steps']} steps: {_listed(counts['labels'])}), {draws} branches per "
        f"boundary. Reader gate {summary['reader']['gate']:.2f}; Spearman correlation of the "
        f"scored with the continued effect {_number(summary['reader']['correlation_ir_te'])}"
    )
    return _Page(
        name=f"{suite.name}step_credit",
        title=f"Step credit against the checker{suite.about}",
        counts=looked_at,
        tables=step_credit_tables(summary),
        axis="AUC, valid against all other labels",
        bars=summary["auc"],
        summary=summary,
    )


def _shortcut(
    a: argparse.Namespace, suite: Suite, settings: Settings, model: Model, items: list[Item]
) -> _Page:
    batches, width = _batches("lucky guess", items, a.batch), _width(model, items)
    rows = lucky_guess.collect(model, batches, settings, group=a.group, prompt_tokens=width)
    return _guess(a, suite, lucky_guess.GUESS, rows, len(items))


def _special_case(
    a: argparse.Namespace, suite: Suite, settings: Settings, model: Model, items: list[Item]
) -> _Page:
    batches = _batches("lucky guess", items, a.batch)
    rows = code_guess.collect(model, batches, settings, group=a.group)
    return _guess(a, suite, code_guess.GUESS, rows, len(items))


def _guess(
    a: argparse.Namespace, suite: Suite, guess: lucky_guess.Guess, rows: dict, asked: int
) -> _Page:
    if not rows:
        raise UserError(
            f"no trajectory of {a.model} tells {' and '.join(guess.kinds)} apart; train one: "
            f"python -m gccpo_jax.sft --config {suite.trained}"
        )
    summary = lucky_guess.summarise(rows, guess)
    looked_at = (
        f"{asked} held-out questions, {a.group} trajectories each, of which "
        f"{_listed(summary['counts'])}"
    )
    return _Page(
        name=f"{suite.name}lucky_guess",
        title=f"The lucky guess is seen{suite.about}",
        counts=looked_at,
        tables=lucky_guess_table(summary, guess),
        axis=f"AUC, {guess.kinds[1]} against {guess.kinds[0]}",
        bars={name: x["auc"] for name, x in summary["scores"].items()},
        summary=summary,
    )


def _open(a: argparse.Namespace, suite: Suite) -> tuple[Model, list[Item]]:
    """The model and its questions, evenly from the splits."""
    task, count = suite.task(), a.questions or suite.questions
    if a.task not in (task.name, "chain"):
        raise UserError(f"--suite {a.suite} is on the task {task.name}, not {a.task!r}")
    each = -(-count // len(suite.splits))
    items = [item for split in suite.splits for item in task.splits[split][:each]][:count]
    model = open_model(a.model, task)
    tokenizer, solution = model.solver.tokenizer, items[0].solution or ""
    if tokenizer.decode(tokenizer.encode(solution)) != solution:
        raise UserError(
            f"--model {a.model}: its tokenizer cannot write a solution of task {task.name}; train "
            f"one: python -m gccpo_jax.sft --config {suite.trained}"
        )
    return model, items


def _batches(name: str, items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """`size` items at a time, under a bar."""
    with Bar(name, len(items)) as bar:
        for first in range(0, len(items), size):
            chosen = items[first : first + size]
            yield chosen
            bar.advance(len(chosen))


def _width(model: Model, items: Sequence[Item]) -> int:
    return prompts_of(model.solver, items).tokens.shape[1]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def _number(x: float | None) -> str:
    return "undefined" if x is None else f"{x:.2f}"


SUITES = {
    "chain": Suite(
        lambda: chain(ChainConfig(**SUITE)),
        CHAIN,
        ("id",),
        96,
        "configs/tiny_sft.py",
        (_step_credit,),
    ),
    "shortcut": Suite(
        lambda: chain(ChainConfig(**SUITE, shortcut=0.9)),
        SHORTCUT,
        ("id", "ood_shortcut"),
        128,
        "configs/shortcut_sft.py --workdir runs/shortcut",
        (_shortcut,),
    ),
    "programs": Suite(
        lambda: programs(ProgramsConfig(**BODIES)),
        PROGRAMS,
        ("id",),
        64,
        "configs/programs_sft.py --workdir runs/programs",
        (_step_credit, _special_case),
        name="programs_",
        about=": programs",
    ),
}
"""A new experiment is a row here and the functions of its pages."""

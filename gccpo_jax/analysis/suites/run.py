"""The two experiments as commands: questions, settings, progress, reports, the last line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from gccpo_jax.analysis.library import prompts_of
from gccpo_jax.analysis.settings import COUNTERFACTUAL, Settings
from gccpo_jax.analysis.suites import lucky_guess, step_credit
from gccpo_jax.analysis.suites.tables import lucky_guess_table, plot_bars, step_credit_tables, write
from gccpo_jax.config import SegmentationConfig
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.progress import Bar
from gccpo_jax.runtime.workdir import output_path
from gccpo_jax.sampling.opened import Model, open_model
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

CHAIN = Settings(
    max_tokens=48,
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
# Another seed than that of the demonstrations of shipped policies: those hold all of its questions.
SUITE = {"seed": 1, "train": 64, "ood": 400, "id": 400, "max_operations": 3}


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


def run_suite(a: argparse.Namespace, settings_of: Callable[..., Settings], typed: str) -> None:
    """Runs `--suite chain` or `--suite shortcut` and prints its summary as the last line.

    `typed` is the command as it was given; the page names it.
    """
    out = output_path(a.out or "docs/results")
    started = time.monotonic()
    if a.suite == "chain":
        page = _chain(a, settings_of(a, CHAIN))
    else:
        page = _shortcut(a, settings_of(a, SHORTCUT))
    took = f"It took {(time.monotonic() - started) / 60:.1f} minutes."
    intro = f"`{typed}`: {page.counts}. {took}"
    paths = write(out, page.name, page.title, intro, page.tables, page.summary)
    plot = out / f"{page.name}.png"
    plot_bars(plot, page.title, page.axis, page.bars, 0.5)
    print("written: " + ", ".join(map(str, [*paths, plot])))
    print(json.dumps(page.summary, sort_keys=True))


def _chain(a: argparse.Namespace, settings: Settings) -> _Page:
    model, items = _open(a, ChainConfig(**SUITE), ["id"], a.questions or 96)
    with Bar("step credit", len(items)) as bar:
        rows, gates = step_credit.collect_rows(
            model,
            items,
            settings,
            group=a.group,
            injected=a.injected,
            batch=a.batch,
            prompt_tokens=_width(model, items),
            progress=bar.advance,
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
        name="step_credit",
        title="Step credit against the checker",
        counts=looked_at,
        tables=step_credit_tables(summary),
        axis="AUC, valid against all other labels",
        bars=summary["auc"],
        summary=summary,
    )


def _shortcut(a: argparse.Namespace, settings: Settings) -> _Page:
    config = ChainConfig(**SUITE, shortcut=0.9)
    model, items = _open(a, config, ["id", "ood_shortcut"], a.questions or 128)
    with Bar("lucky guess", len(items)) as bar:
        rows = lucky_guess.collect(
            model,
            items,
            settings,
            group=a.group,
            batch=a.batch,
            prompt_tokens=_width(model, items),
            progress=bar.advance,
        )
    if not rows:
        raise UserError(
            f"no trajectory of {a.model} tells cue and steps apart; train one on the shortcut: "
            "python -m gccpo_jax.sft --config configs/shortcut_sft.py --workdir runs/shortcut"
        )
    summary = lucky_guess.summarise(rows)
    looked_at = (
        f"{len(items)} held-out questions, {a.group} trajectories each, of which "
        f"{_listed(summary['counts'])}"
    )
    return _Page(
        name="lucky_guess",
        title="The lucky guess is seen",
        counts=looked_at,
        tables=lucky_guess_table(summary),
        axis="AUC, follows the steps against follows the cue",
        bars={name: x["auc"] for name, x in summary["scores"].items()},
        summary=summary,
    )


def _open(
    a: argparse.Namespace, config: ChainConfig, splits: Sequence[str], count: int
) -> tuple[Model, list[Item]]:
    """The model and `count` questions, evenly from the splits."""
    if a.task != "chain":
        raise UserError(f"--suite {a.suite} is on the task chain, not {a.task!r}")
    task = chain(config)
    each = -(-count // len(splits))
    items = [item for split in splits for item in task.splits[split][:each]][:count]
    return open_model(a.model, task), items


def _width(model: Model, items: Sequence[Item]) -> int:
    return prompts_of(model.solver, items).tokens.shape[1]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def _number(x: float | None) -> str:
    return "undefined" if x is None else f"{x:.2f}"

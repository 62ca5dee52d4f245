"""The two experiments as commands: questions, settings, progress, reports, the last line."""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from gccpo_jax.analysis_settings import Settings
from gccpo_jax.counterfactual import Model, open_model, prompts_of
from gccpo_jax.errors import UserError
from gccpo_jax.progress import Bar
from gccpo_jax.suites import lucky_guess, report, step_credit
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.chain import ChainConfig, chain

CHAIN = Settings(
    max_tokens=48, draws=16, latent_arms=2, surface_arms=3, corrupt_arms=3, max_answer_tokens=3,
    max_candidates=12,
    max_steps=6,
)  # fmt: skip
SHORTCUT = Settings(
    max_tokens=48, draws=4, latent_arms=0, surface_arms=8, corrupt_arms=4, audit_arms=4,
    equivariance_arms=4, max_answer_tokens=3, max_steps=6,
)  # fmt: skip
SUITE = {"train": 64, "ood": 400, "id": 400, "max_operations": 3}


def run_suite(a: argparse.Namespace, settings_of: Callable[..., Settings]) -> None:
    """Runs `--suite chain` or `--suite shortcut` and prints its summary as the last line."""
    out = pathlib.Path(a.out or "docs/results")
    started = time.monotonic()
    if a.suite == "chain":
        summary = _chain(a, settings_of(a, CHAIN), out, started)
    else:
        summary = _shortcut(a, settings_of(a, SHORTCUT), out, started)
    print(json.dumps(summary, sort_keys=True))


def _chain(
    a: argparse.Namespace, settings: Settings, out: pathlib.Path, started: float
) -> dict[str, Any]:
    model, items = _open(a, ChainConfig(**SUITE), ["id"], a.questions or 96)
    with Bar("step credit", len(items)) as bar:
        rows, gates = step_credit.collect_rows(
            model, items, settings, group=a.group, injected=a.injected, batch=a.batch,
            prompt_tokens=_width(model, items), progress=bar.advance,
        )  # fmt: skip
    summary = step_credit.summarise(rows, gates)
    counts = summary["counts"]
    intro = (
        f"`{_command(a)}`: {counts['questions']} held-out questions, {a.group} sampled and "
        f"{a.injected} injected trajectories each ({counts['trajectories']} in all, "
        f"{counts['steps']} steps: {_listed(counts['labels'])}), {settings.draws} branches a "
        f"boundary. Reader gate {summary['reader']['gate']:.2f}; Spearman correlation of the "
        f"scored with the continued effect {_number(summary['reader']['correlation_ir_te'])}. "
        f"{_minutes(started)}."
    )
    title = "Step credit against the checker"
    paths = report.write(
        out, "step_credit", title, intro, report.step_credit_tables(summary), summary
    )
    plot = out / "step_credit.png"
    report.plot_bars(plot, title, "AUC, valid against all other labels", summary["auc"], 0.5)
    _say([*paths, plot])
    return summary


def _shortcut(
    a: argparse.Namespace, settings: Settings, out: pathlib.Path, started: float
) -> dict[str, Any]:
    config = ChainConfig(**SUITE, shortcut=0.9)
    model, items = _open(a, config, ["id", "ood_shortcut"], a.questions or 128)
    with Bar("lucky guess", len(items)) as bar:
        rows = lucky_guess.collect(
            model, items, settings, group=a.group, batch=a.batch,
            prompt_tokens=_width(model, items), progress=bar.advance,
        )  # fmt: skip
    if not rows:
        raise UserError(
            f"no trajectory of {a.model} tells cue and steps apart; train one on the shortcut: "
            "python -m gccpo_jax.sft --config configs/shortcut_sft.py --workdir runs/shortcut"
        )
    summary = lucky_guess.summarise(rows)
    intro = (
        f"`{_command(a)}`: {len(items)} held-out questions, {a.group} trajectories each, of which "
        f"{_listed(summary['counts'])}. {_minutes(started)}."
    )
    title = "The lucky guess is seen"
    paths = report.write(
        out, "lucky_guess", title, intro, report.lucky_guess_table(summary), summary
    )
    plot = out / "lucky_guess.png"
    aucs = {name: x["auc"] for name, x in summary["scores"].items()}
    report.plot_bars(plot, title, "AUC, follows the steps against follows the cue", aucs, 0.5)
    _say([*paths, plot])
    return summary


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
    return prompts_of(model.kit, items).tokens.shape[1]


def _command(a: argparse.Namespace) -> str:
    model = "" if a.model == "tiny" else f" --model {a.model}"
    return f"python -m gccpo_jax.analyse --suite {a.suite}{model}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def _number(x: float | None) -> str:
    return "undefined" if x is None else f"{x:.2f}"


def _minutes(started: float) -> str:
    return f"It took {(time.monotonic() - started) / 60:.1f} minutes"


def _say(paths: Sequence[pathlib.Path]) -> None:
    print("written: " + ", ".join(map(str, paths)))

"""A model card from what a run left: data, arm, seed, figures with intervals, the command."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.runtime.workdir import COMMAND
from gccpo_jax.statistics.bootstrap import bootstrap, ratio
from gccpo_jax.statistics.shares import wilson


def card(
    run: pathlib.Path,
    licence: str,
    data_licence: str,
    command: str,
    evaluations: Sequence[pathlib.Path] = (),
) -> str:
    """The text of a README.md for the model that a run made.

    Args:
      run: its folder, finished. licence, data_licence: of the weights, of what they learned from.
      command: that exported it. evaluations: folders whose pages are added.
    Raises:
      UserError: the folder holds no finished run, or an evaluation has no page.
    """
    config, summary = (_json(run / name) for name in ("config.json", "summary.json"))
    base = "none" if config["policy"]["init"] == "scratch" else config["policy"]["path"]
    credit, objective = config["credit"]["kind"], config["objective"]["loss"]
    files = [config["data"][name] for name in ("path", "eval_path") if config["data"][name]]
    made = _made_by(run)
    facts = {
        "base model": f"`{base}`",
        "data": f"task `{config['task']['name']}`, " + (", ".join(files) or "questions of its own"),
        "arm": f"config `{summary['config']}`: credit `{credit}`, objective `{objective}`, beta "
        f"{config['objective']['beta']:g}",
        "seed": str(config["seed"]),
        "training": f"{summary['steps']} steps of {config['batch_size']} questions, groups of "
        f"{config['group_size']}, learning rate {config['optim']['lr']:g}",
        "licence": licence,
        "licence of the data": data_licence,
    }
    lines = [f"| {name} | {fact} |" for name, fact in facts.items()]
    return "\n".join(
        [
            "---",
            f"license: {json.dumps(licence)}",
            *([f"base_model: {json.dumps(base)}"] if _is_on_the_hub(base) else []),
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags: [gccpo_jax, reinforcement-learning, reasoning]",
            "---",
            f"# {run.resolve().name}",
            "",
            "A policy after reinforcement learning with gccpo_jax.",
            "",
            "| what | |",
            "| --- | --- |",
            *lines,
            "",
            "## Figures",
            "",
            "Shares of right answers in %, greedy unless a name says otherwise, with 95 % "
            "intervals over questions of this seed.",
            "",
            *_figures(run, summary),
            "",
            *(_read(folder / "summary.md") for folder in evaluations),
            "## Commands",
            "",
            "```bash",
            *([made] if made else []),
            command,
            "```",
            "",
        ]
    )


def _is_on_the_hub(base: str) -> bool:
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base)) and not pathlib.Path(base).exists()


def _json(file: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(_read(file))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); finish the run again") from None


def _read(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); give the folder of what is finished"
        ) from None


def _made_by(run: pathlib.Path) -> str:
    file = run / COMMAND
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _figures(run: pathlib.Path, summary: Mapping[str, Any]) -> list[str]:
    """A table of every split before and after, from the scores of its questions."""
    before, after = (_scores(run, step) for step in (0, summary["steps"]))
    lines = ["| split | questions | before | after |", "| --- | ---: | ---: | ---: |"]
    for split, scores in after.items():
        first = before.get(split, [])
        lines.append(f"| {split} | {len(scores)} | {_cell(first)} | {_cell(scores)} |")
    return lines


def _scores(run: pathlib.Path, step: int) -> dict[str, list[float | None]]:
    file = run / "evaluation" / f"step_{step:06d}.jsonl"
    if not file.is_file():
        return {}
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {row["split"]: row["scores"] for row in rows}


def _cell(given: list[float | None]) -> str:
    """Mean with Wilson's interval, or with a bootstrap's where scores are partial.

    Of what could be scored; the share of the rest is beside it.

    >>> _cell([1.0, 0.0, None, None])
    '50.0 [9.5, 90.5] (50.0% unscorable)'
    """
    scores = [score for score in given if score is not None]
    lost = f" ({1 - len(scores) / len(given):.1%} unscorable)" if len(scores) < len(given) else ""
    if not scores:
        return f"--{lost}"
    if set(scores) <= {0, 1}:
        found = wilson(sum(scores), len(scores))
    else:
        found = bootstrap(ratio(*_columns(scores)), len(scores))
    return f"{100 * found.estimate:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]{lost}"


def _columns(scores: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(scores, np.float64), np.ones(len(scores))

"""Raw results of a study: every question, cell and checkpoint in one file of JSON lines.

    {"kind": "plan", ...}                                        the plan, as in plan.json
    {"kind": "questions", "split", "items", "templates"}         one per split
    {"kind": "end", "comparison", "arm", "seed", "updates"}      which cell stands for the arm
    {"kind": "cell", "arm", "seed", "updates", "tokens"}         forward tokens after each update
    {"kind": "scores", "arm", "seed", "updates", "step", "split", "scores"}

Scores are in the order of the split's items, in [0, 1], null where nothing could be scored. All
tables and plots are made from this file alone; nothing in it depends on the clock.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.runtime.workdir import write_text
from gccpo_jax.study.plan import Cell, Study, freeze_study
from gccpo_jax.study.run import Cells, folder, tokens_of
from gccpo_jax.tasks.json_rows import json_lines

_EXPECTED = "a line of a study's results.jsonl"

Run = tuple[str, int, int]
"""(arm, seed, updates): which cell."""


@dataclasses.dataclass(frozen=True)
class Results:
    """A study's raw results."""

    study: Study
    templates: dict[str, list[str]]  # {split: [N]}
    tokens: dict[Run, np.ndarray]  # [updates]
    scores: dict[Run, dict[int, dict[str, np.ndarray]]]  # {run: {step: {split: [N]}}}, NaN unknown
    ends: dict[str, dict[str, dict[int, Run]]]  # {comparison: {arm: {seed: run}}}


def gather(study: Study, workdir: pathlib.Path, cells: Cells) -> pathlib.Path:
    """Writes `results.jsonl` from finished cells; its path.

    Raises:
      UserError: two cells were asked different questions.
    """
    file = workdir / "results.jsonl"
    rows = _rows(study, workdir, cells)
    write_text(file, "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    return file


def _rows(study: Study, workdir: pathlib.Path, cells: Cells) -> Iterator[dict[str, Any]]:
    yield {"kind": "plan", **dataclasses.asdict(study)}
    asked: dict[str, dict] = {}
    parts = ("equal updates", cells.equal_updates), ("equal tokens", cells.equal_tokens)
    known: set[str] = set()
    for comparison, some in parts:
        for one in some:
            which = {"arm": one.arm, "seed": one.seed, "updates": one.updates}
            yield {"kind": "end", "comparison": comparison, **which}
            if one.name in known:
                continue
            known.add(one.name)
            yield {"kind": "cell", **which, "tokens": tokens_of(workdir, one).tolist()}
            for step, row in _evaluations(workdir, one):
                questions = {key: row[key] for key in ("split", "items", "templates")}
                if row["split"] not in asked:
                    asked[row["split"]] = questions
                    yield {"kind": "questions", **questions}
                if asked[row["split"]] != questions:
                    raise UserError(
                        f"{folder(workdir, one)}: other questions in {row['split']} than in the "
                        "first cell; give all arms the same task and eval fields"
                    )
                rest = {"step": step, "split": row["split"], "scores": row["scores"]}
                yield {"kind": "scores", **which, **rest}


def _evaluations(workdir: pathlib.Path, one: Cell) -> Iterator[tuple[int, dict]]:
    for file in sorted((folder(workdir, one) / "evaluation").glob("step_*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield int(file.stem.removeprefix("step_")), json.loads(line)


def read_results(file: pathlib.Path) -> Results:
    """What `gather` wrote.

    Raises:
      UserError: the file cannot be read, is damaged, or lacks a cell that the plan asks for.
    """
    by_kind: dict[str, list[dict]] = {}
    for row, where in json_lines(file, _EXPECTED):
        if not isinstance(row, dict) or "kind" not in row:
            raise UserError(f"{where}: no field 'kind'; expected {_EXPECTED}")
        by_kind.setdefault(row.pop("kind"), []).append(row)
    if len(by_kind.get("plan", [])) != 1:
        raise UserError(f"{file}: no plan in it; expected a study's results.jsonl")
    study = freeze_study(by_kind["plan"][0])
    found = Results(study, {}, {}, {}, {})
    for row in by_kind.get("questions", []):
        found.templates[row["split"]] = row["templates"]
    for row in by_kind.get("cell", []):
        found.tokens[_run(row)] = np.array(row["tokens"], np.float64)
    for row in by_kind.get("scores", []):
        steps = found.scores.setdefault(_run(row), {})
        steps.setdefault(row["step"], {})[row["split"]] = np.array(row["scores"], np.float64)
    for row in by_kind.get("end", []):
        arms = found.ends.setdefault(row["comparison"], {})
        arms.setdefault(row["arm"], {})[row["seed"]] = _run(row)
    for comparison, arms in found.ends.items():
        missing = [(a, s) for a in study.arms for s in study.seeds if s not in arms.get(a, {})]
        if missing:
            raise UserError(f"{file}: {comparison}: no cell of arm and seed {missing[0]}; run it")
    return found


def _run(row: dict) -> Run:
    return row["arm"], row["seed"], row["updates"]


def at_the_end(results: Results, comparison: str, arm: str, split: str) -> np.ndarray:
    """Scores [S, N] of an arm's last checkpoints, seeds in the plan's order."""
    runs = [results.ends[comparison][arm][seed] for seed in results.study.seeds]
    return np.stack([results.scores[run][run[2]][split] for run in runs])


def paired(*scores: np.ndarray, templates: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
    """Scores [S, N] of several arms without the items that one of them could not be scored on."""
    known = np.all([~np.isnan(x).any(0) for x in scores], axis=0)
    return [x[:, known] for x in scores], [t for t, k in zip(templates, known, strict=True) if k]

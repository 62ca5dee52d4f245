"""Analysis of a file: questions to sample, or given solutions, in batches, resumable."""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gccpo_jax.analysis.labelled import LabelledRow, read_labelled
from gccpo_jax.analysis.library import (
    Query,
    analyse_batch,
    make_item,
    prompts_of,
    step_ids,
)
from gccpo_jax.analysis.process_bench import process_bench
from gccpo_jax.analysis.report import render
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.analysis.suites.tables import interval, table
from gccpo_jax.errors import UserError
from gccpo_jax.policy.chat_template import Template
from gccpo_jax.runtime.progress import Bar
from gccpo_jax.runtime.workdir import output_path
from gccpo_jax.sampling.opened import Model, open_model
from gccpo_jax.sampling.questions import round_up

_FIELDS = ("phi", "D", "R", "S", "Q", "other", "deletion", "logp", "entropy")
_JUDGED = ("D", "phi", "R", "Q", "logp")


def analyse_file(a: argparse.Namespace, settings: Settings, template: Template) -> None:
    """Reads `--data`, analyses every row, writes results as they come, then the summary.

    Raises:
      UserError: a malformed row (file and line), results in --out without --resume, a
        text that does not fit into the model's context.
    """
    rows = read_labelled(a.data)[: a.questions or None]
    out = output_path(a.out)
    done = _started(out, a.resume)
    model = open_model(a.model, a.task, template=template)
    queries = [_query(model, number, row) for number, row in enumerate(rows)]
    left = [query for query in queries if query.name not in done]
    with Bar("questions", len(queries)) as bar, _append(out / "trajectories.jsonl") as lines:
        bar.advance(len(queries) - len(left))
        for chosen, widths in _batches(model, left, a.batch, settings):
            reports, found = analyse_batch(
                model,
                chosen,
                settings,
                group=a.group,
                prompt_tokens=widths[0],
                response_tokens=widths[1],
            )
            for one in reports:  # a question's together, so that resume sees all or none
                text = "".join(json.dumps(r.to_json() | {"gate": found.gate}) + "\n" for r in one)
                lines.write(text)
                lines.flush()
            with _append(out / "trajectories.txt") as page:
                page.write("\n".join(render(r) for one in reports for r in one) + "\n")
            bar.advance(len(chosen))
    _summary(out, rows)


def _started(out: pathlib.Path, resume: bool) -> set[str]:
    """Names of the rows that are already in the results; an unfinished last line is dropped."""
    file = out / "trajectories.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        return set()
    if not resume:
        raise UserError(f"{out}: it holds results; add --resume to go on, or choose another --out")
    text = file.read_text(encoding="utf-8")
    kept = text[: text.rfind("\n") + 1]
    file.write_text(kept, encoding="utf-8")
    return {json.loads(line)["id"].partition("/")[0] for line in kept.splitlines()}


def _append(path: pathlib.Path):
    return path.open("a", encoding="utf-8")


def _query(model: Model, number: int, row: LabelledRow) -> Query:
    item = make_item(model.solver.task, number, row.question, row.answer)
    labels = None
    if row.valid is not None:
        labels = tuple(_LABELS[valid] for valid in row.valid)
    return Query(item, row.steps, labels, name=str(number))


_LABELS = {True: "valid", False: "wrong", None: None}


def _batches(
    model: Model, queries: Sequence[Query], size: int, settings: Settings
) -> Iterable[tuple[list[Query], tuple[int, int]]]:
    """Batches of questions, then of solutions, each with the widths to pad to."""
    for given in (False, True):
        chosen = [query for query in queries if (query.steps is not None) == given]
        if not chosen:
            continue
        width = prompts_of(model.solver, [query.item for query in chosen]).tokens.shape[1]
        longest = max(
            (sum(map(len, step_ids(model.solver, q.steps or ()))) for q in chosen), default=1
        )
        for first in range(0, len(chosen), size):
            yield chosen[first : first + size], (width, round_up(max(longest, 1)))


def _summary(out: pathlib.Path, rows: Sequence[LabelledRow]) -> None:
    """summary.json and summary.md from everything in trajectories.jsonl."""
    with (out / "trajectories.jsonl").open(encoding="utf-8") as file:
        reports = [json.loads(line) for line in file]
    summary = summarise(reports, rows)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (out / "summary.md").write_text(_page(summary), encoding="utf-8")
    print(_page(summary))
    print(f"written: {out / 'trajectories.jsonl'}, trajectories.txt, summary.json, summary.md")


def summarise(reports: Sequence[dict], rows: Sequence[LabelledRow]) -> dict[str, Any]:
    """Means of every score, by outcome and by label; F1 of the earliest error where labelled."""
    steps = [(report, step) for report in reports for step in report["steps"]]
    outcomes = [r["outcome"] for r in reports if r["outcome"] is not None]
    found: dict[str, Any] = {
        "trajectories": len(reports),
        "questions": len({r["id"].partition("/")[0] for r in reports}),
        "steps": len(steps),
        "without_steps": sum(not r["steps"] for r in reports),
        "without_answer": sum(r["answer"] is None for r in reports),
        "accuracy": float(np.mean(outcomes)) if outcomes else None,
        "unscorable": 1 - len(outcomes) / len(reports) if reports else None,
        "reader_gate": float(np.mean([r["gate"] for r in reports])) if reports else None,
        "scores": {name: _mean(steps, name, lambda r, s: True) for name in _FIELDS},
        "right": {name: _mean(steps, name, lambda r, s: r["outcome"] == 1) for name in _FIELDS},
        "wrong": {name: _mean(steps, name, lambda r, s: r["outcome"] == 0) for name in _FIELDS},
    }
    labels = collections.Counter(s["label"] for _, s in steps if s["label"] is not None)
    if labels:
        found["labels"] = dict(labels)
        found["by_label"] = {
            label: {
                name: _mean(steps, name, lambda r, s, x=label: s["label"] == x) for name in _FIELDS
            }
            for label in labels
        }
        found["earliest_error_f1"] = _earliest_errors(reports, rows)
    return found


def _value(step: dict, name: str) -> float | None:
    x = step[name]
    return x["value"] if isinstance(x, dict) else x


def _mean(steps: Sequence[tuple[dict, dict]], name: str, keep) -> dict[str, Any]:
    values = [_value(s, name) for r, s in steps if keep(r, s)]
    known = [x for x in values if x is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "defined": len(known),
        "undefined": len(values) - len(known),
    }


def _earliest_errors(reports: Sequence[dict], rows: Sequence[LabelledRow]) -> dict[str, Any]:
    """ProcessBench's F1 of each score, thresholds crossed between halves of the questions."""
    judged = [
        (r, rows[int(r["id"])].earliest_error)
        for r in reports
        if r["id"].isdigit() and rows[int(r["id"])].earliest_error is not None
    ]
    judged = [(r, e) for r, e in judged if -1 <= e < len(r["steps"])]
    out = {}
    for name in _JUDGED:
        scores = [
            [np.nan if (x := _value(s, name)) is None else x for s in r["steps"]] for r, _ in judged
        ]
        found, _ = process_bench(scores, [e for _, e in judged], [int(r["id"]) for r, _ in judged])
        out[name] = found.f1.plain()
    return out


def columns(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Means of every score by outcome and by label, as `summarise` made them."""
    parts = {"all steps": "scores", "right answers": "right", "wrong answers": "wrong"}
    found = {title: summary[key] for title, key in parts.items()}
    return found | {f"label {name}": x for name, x in summary.get("by_label", {}).items()}


def _page(summary: dict[str, Any]) -> str:
    """The summary as Markdown."""
    shown = columns(summary)
    lines = [[name, *(_cell(column[name]) for column in shown.values())] for name in _FIELDS]
    accuracy, lost = summary["accuracy"], summary["unscorable"]
    text = [
        f"{summary['trajectories']} trajectories of {summary['questions']} questions, "
        f"{summary['steps']} steps; accuracy {'--' if accuracy is None else f'{accuracy:.1%}'}"
        f"{f' (unscorable {lost:.1%})' if lost else ''}; "
        f"reader gate {summary['reader_gate'] or 0:.2f}; {summary['without_steps']} without steps, "
        f"{summary['without_answer']} without an answer.",
        "Mean of each score, and the number of steps where it is defined. R, S and Q are not "
        "where the scored law has more than .2 outside the candidates (`other`), nor S where a "
        "step has no number:",
        table(["score", *shown], lines),
    ]
    if summary["reader_gate"] is not None and summary["reader_gate"] < _TRUSTED:
        text.append(
            f"The scored reader names the emitted answer in {summary['reader_gate']:.0%} of "
            "finished trajectories, too few to trust R, S and Q here; Phi and D do not use it."
        )
    if "earliest_error_f1" in summary:
        text.append("F1 of the earliest wrong step (ProcessBench):")
        f1 = summary["earliest_error_f1"]
        text.append(table(["score", "F1"], [[n, interval(x)] for n, x in f1.items()]))
    return "\n\n".join(text) + "\n"


_TRUSTED = 0.5


def _cell(x: dict[str, Any]) -> str:
    return "--" if x["mean"] is None else f"{x['mean']:.3f} ({x['defined']})"

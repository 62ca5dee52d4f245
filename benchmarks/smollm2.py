"""What the SmolLM2 runs show: a table with intervals, the learning curve, answers to read.

    python benchmarks/smollm2.py runs [--out docs/results]
    python benchmarks/smollm2.py docs/results/smollm2.json [--out docs/results]

The first reads a folder with `start`, `A0` and `A15` as docs/smollm2.md makes them (runs, each with
its `answers` by `python -m gccpo_jax.evaluate`) and writes smollm2.json; the second begins with
that file. Both write smollm2.png (needs the extra `plots`) and print the tables.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gccpo_jax.analysis.suites.tables import load_pyplot
from gccpo_jax.evaluation.responses import read
from gccpo_jax.evaluation.summary import parted
from gccpo_jax.runtime.workdir import write_json
from gccpo_jax.statistics.shares import mcnemar, wilson

START = "start"
ARMS = ("A0", "A15")
NAMES = {START: "warm start", "A0": "GRPO (`A0`)", "A15": "over several wordings (`A15`)"}
CURVES = {"accuracy": "right, sampled, %", "direct": "answered at once, %"}
KEPT = ("step", *CURVES, "length", "entropy", "step_seconds")
"""Metrics of an update that the file keeps."""
SPLITS = ("label_right", "label_wrong", "label_absent")
SHOWN = 3
"""Questions whose answers the file keeps."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("source", type=pathlib.Path, help="folder of the runs, or smollm2.json")
    options.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/results"))
    asked = options.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.source.is_dir():
        found = gathered(asked.source)
        write_json(asked.out / "smollm2.json", found)
    else:
        found = json.loads(asked.source.read_text())
    draw(found["updates"], asked.out / "smollm2.png")
    print(
        "\n\n".join([accuracies(found["outcomes"]), cost(found["updates"]), read_by_people(found)])
    )


def gathered(folder: pathlib.Path) -> dict[str, Any]:
    """Outcomes of all held-out questions, metrics of all updates, answers to a few questions."""
    rows = {name: parted(read(folder / name / "answers")) for name in NAMES}
    return {
        "outcomes": {name: {s: outcomes(r) for s, r in x.items()} for name, x in rows.items()},
        "updates": {name: updates(folder / name / "metrics.jsonl") for name in ARMS},
        "shown": shown({name: splits["label_wrong"] for name, splits in rows.items()}),
    }


def outcomes(rows: Sequence[dict]) -> dict[str, list[int]]:
    """Whether each greedy answer is right, by wording, in the order of the questions' ids."""
    found: dict[str, list[int]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        found.setdefault(row["meta"]["wording"], []).append(int(row["greedy"]["outcome"]))
    return found


def updates(file: pathlib.Path) -> list[dict[str, float]]:
    """The metrics of each update that are kept."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        {name: round(row[name], 4) for name in KEPT if name in row} for row in rows if row["step"]
    ]


def shown(rows: dict[str, Sequence[dict]]) -> list[dict[str, Any]]:
    """The first questions in the second wording, with what each policy answers."""
    by_id = {name: {row["id"]: row for row in own} for name, own in rows.items()}
    second = sorted(n for n, row in by_id[START].items() if row["meta"]["wording"] == "second")
    return [
        {
            "question": by_id[START][n]["question"],
            "answer": by_id[START][n]["answer"],
            **{name: own[n]["greedy"]["text"] for name, own in by_id.items()},
        }
        for n in second[:SHOWN]
    ]


def accuracies(found: dict[str, dict[str, dict[str, list[int]]]]) -> str:
    """Right of each split in %, Wilson's intervals; beside the start, exact McNemar's p."""
    lines = ["| split | wording | " + " | ".join(NAMES.values()) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(NAMES))
    for split in SPLITS:
        for wording in ("both", "first", "second"):
            first = picked(found[START][split], wording)
            cells = []
            for name in NAMES:
                own = picked(found[name][split], wording)
                x = wilson(float(own.sum()), len(own))
                cell = f"{100 * x.estimate:.1f} [{100 * x.low:.1f}, {100 * x.high:.1f}]"
                p = "" if name == START else f", p {mcnemar(own, first).p:.2g}"
                cells.append(cell + p)
            lines.append(f"| {split} | {wording} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picked(wordings: dict[str, list[int]], which: str) -> np.ndarray:
    """Outcomes in one wording, or in both."""
    own = wordings.values() if which == "both" else [wordings[which]]
    return np.array([x for part in own for x in part], float)


def cost(found: dict[str, list[dict[str, float]]]) -> str:
    """Seconds of each arm's updates."""
    lines = ["| arm | updates | seconds per update, median | minutes in all |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, rows in found.items():
        seconds = [row["step_seconds"] for row in rows]
        lines.append(
            f"| {NAMES[name]} | {len(rows)} | {np.median(seconds):.0f} | {sum(seconds) / 60:.0f} |"
        )
    return "\n".join(lines)


def read_by_people(found: dict[str, Any]) -> str:
    """The shown questions and answers as text."""
    parts = []
    for each in found["shown"]:
        lines = [each["question"], f"(right: {each['answer']})"]
        for name in NAMES:
            lines += [f"  {name}:", *(f"    {line}" for line in each[name].splitlines())]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw(found: dict[str, list[dict[str, float]]], file: pathlib.Path) -> None:
    """Sampled accuracy and share of answers at once by update, with running means of five."""
    pyplot = load_pyplot()
    figure, panels = pyplot.subplots(1, len(CURVES), figsize=(8.4, 3.2), layout="constrained")
    for axes, (metric, title) in zip(panels, CURVES.items(), strict=True):
        for place, (name, rows) in enumerate(found.items()):
            steps = [row["step"] for row in rows]
            values = 100 * np.array([row[metric] for row in rows])
            axes.plot(steps, values, color=f"C{place}", alpha=0.3, linewidth=1)
            mean = [values[max(n - 4, 0) : n + 1].mean() for n in range(len(values))]
            axes.plot(steps, mean, color=f"C{place}", label=NAMES[name].replace("`", ""))
        axes.set(xlabel="update", title=title, ylim=(0, 100))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    panels[0].legend(fontsize=8)
    figure.savefig(file, dpi=140, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()

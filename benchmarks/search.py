"""Accuracy against compute at test time: votes, choices and beams, on the chain suite.

    python benchmarks/search.py [--model tiny] [--questions 200] [--draws 64] [--work DIR]

Writes docs/results/search.json, search.md and search.png: for N = 1, 2, 4, ... draws the majority's
answer, the majority's weighted by probability, the likeliest response, the one that a scorer of
steps likes best, and, as the bound of any choice, whether one of the N is right; and beams over
steps of growing width, guided by each of the values. Each has its interval over questions and the
tokens it costs per question. The scorer is learned first, from branches of the model on training
questions (`gccpo_jax.prm`). With --work a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence

from gccpo_jax import evaluate, prm
from gccpo_jax.evaluation.figures import sizes
from gccpo_jax.evaluation.summary import cell
from gccpo_jax.runtime.workdir import write_json, write_text

OUT = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results"
SPLITS = ("id", "ood_depth")
WAYS = {
    "maj": "majority",
    "wmaj": "weighted majority",
    "best": "likeliest",
    "scored": "scorer's best",
    "pass": "one of them (bound)",
}
VALUES = {
    "logp": "log-probability",
    "agreement": "agreement of branches",
    "scorer": "scorer (Phi, foretold)",
    "phi": "Phi (knows the answer: bound)",
}
BEAMS = ((1, 2), (1, 4), (2, 4), (4, 4))
"""Prefixes that are kept, and next steps of each."""
BRANCHES = 2


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--work", help="folder of the evaluations, to go on with a killed one")
    a = parser.parse_args(argv)
    with contextlib.ExitStack() as open_until_the_end:
        work = a.work or open_until_the_end.enter_context(tempfile.TemporaryDirectory())
        found = {"command": "python benchmarks/search.py", **measured(a, pathlib.Path(work))}
    write_json(OUT / "search.json", found)
    write_text(OUT / "search.md", page(found))
    plot(found, OUT / "search.png")


def measured(a: argparse.Namespace, work: pathlib.Path) -> dict:
    """Every curve of every split."""
    if not (work / "prm" / "summary.json").exists():
        prm.run_command(f"--model {a.model} --task chain --out {work}/prm".split())
    scorer = f"--scorer prm:{work}/prm"
    drawn = evaluated(a, work / "draws", f"--draws {a.draws} {scorer}")
    found = {"settings": drawn["settings"], "splits": {}, "beams": {}}
    for split in SPLITS:
        found["splits"][split] = curve(drawn["splits"][split], a.draws)
        found["beams"][split] = {value: {} for value in VALUES}
    for value in VALUES:
        for width, steps in BEAMS:
            name = f"{width}x{steps}"
            words = f"--beam {width} --beam-steps {steps} --beam-value {value}"
            words += f" --beam-branches {BRANCHES} {scorer if value == 'scorer' else ''}"
            beam = evaluated(a, work / f"{value}-{name}", words)["splits"]
            for split in SPLITS:
                found["beams"][split][value][name] = beam[split]["beam"]
    return found


def evaluated(a: argparse.Namespace, out: pathlib.Path, words: str) -> Mapping:
    """The summary of one evaluation, from where it stands."""
    words += f" --model {a.model} --task chain --split {' '.join(SPLITS)} --max-tokens 64"
    words += f" --batch 256 --questions {a.questions} --out {out}"
    resume = ["--resume"] if (out / evaluate.SETTINGS).exists() else []
    return evaluate.run_command([*words.split(), *resume])


def curve(figures: Mapping, draws: int) -> dict[str, dict]:
    """Figures by N: of N = 1 greedy and one draw, of the others every way."""
    one = {"greedy": figures["greedy"], "draw": figures[f"mean@{draws}"]}
    return {"1": one} | {str(k): {way: figures[f"{way}@{k}"] for way in WAYS} for k in sizes(draws)}


def page(found: Mapping) -> str:
    """The curves as Markdown."""
    settings = found["settings"]
    parts = [
        "# Accuracy against compute at test time",
        f"`{found['command']}`: the policy `{settings['model']}` on the chain suite, "
        f"{settings['draws']} draws at temperature {settings['temperature']:g}, and beams over "
        "steps. Shares of right answers in %, with 95 % intervals over questions; tokens read or "
        "written per question.",
        "![Accuracy against tokens](search.png)",
    ]
    for split, rows in found["splits"].items():
        count = rows["1"]["greedy"]["questions"]
        parts += [f"## {split}, {count} questions", _of_draws(rows)]
        parts.append(
            "Beams: prefixes kept x next steps of each; beside each share its tokens, and in "
            "brackets those of prefixes that are read again. Values from branches have "
            f"{BRANCHES} of them."
        )
        parts.append(_of_beams(found["beams"][split]))
    return "\n\n".join(parts) + "\n"


def _of_draws(rows: Mapping) -> str:
    lines = [["N", "tokens", *WAYS.values()], ["---:"] * (2 + len(WAYS))]
    for n, row in rows.items():
        if n == "1":
            for name, x in row.items():
                tokens = f"{x['tokens']:.0f}"
                lines.append([f"1, {name}", tokens, cell(x), *["="] * (len(WAYS) - 1)])
        else:
            tokens = f"{row['maj']['tokens']:.0f}"
            lines.append([n, tokens, *(cell(row[way]) for way in WAYS)])
    return _table(lines)


def _of_beams(rows: Mapping) -> str:
    lines = [["beam", *VALUES.values()], ["---:"] * (1 + len(VALUES))]
    for width, steps in BEAMS:
        cells = [rows[value][f"{width}x{steps}"] for value in VALUES]
        shown = [f"{cell(x)}, {x['tokens']:.0f} ({x['again']:.0f})" for x in cells]
        lines.append([f"{width} x {steps}", *shown])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(found: Mapping, file: pathlib.Path) -> None:
    """Accuracy over tokens, one panel per split."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(SPLITS), figsize=(11, 4.2), sharey=True)
    for split, panel in zip(SPLITS, panels, strict=True):
        rows = found["splits"][split]
        for way, name in WAYS.items():
            points = [rows["1"]["draw"], *(rows[n][way] for n in rows if n != "1")]
            _line(panel, points, name, "o-" if way != "pass" else "o:")
        for value, name in VALUES.items():
            points = list(found["beams"][split][value].values())
            _line(panel, points, f"beam: {name}", "s--" if value != "phi" else "s:")
        panel.set(xscale="log", xlabel="tokens per question", title=split)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("right answers, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", fontsize=8)
    figure.tight_layout(rect=(0, 0, 0.76, 1))
    figure.savefig(file, dpi=110)


def _line(panel, points: Sequence[Mapping], name: str, form: str) -> None:
    x = [point["tokens"] for point in points]
    low, value, high = ([100 * point[end] for point in points] for end in ("low", "value", "high"))
    (line,) = panel.plot(x, value, form, markersize=3, label=name)
    panel.fill_between(x, low, high, alpha=0.1, color=line.get_color(), linewidth=0)


if __name__ == "__main__":
    main(sys.argv[1:])

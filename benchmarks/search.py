"""Accuracy against compute at test time: votes and choices among N draws, on the chain suite.

    python benchmarks/search.py [--model tiny] [--questions 200] [--draws 32] [--work DIR]

Writes docs/results/search.json and search.md: for N = 1, 2, 4, ... the majority's answer, the
majority's weighted by probability, the likeliest response, and, as the bound of any choice, whether
one of the N is right; each with its interval over questions and the tokens it costs per question.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence

from gccpo_jax import evaluate
from gccpo_jax.evaluation.figures import sizes
from gccpo_jax.evaluation.summary import cell
from gccpo_jax.runtime.workdir import write_json, write_text

OUT = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results"
WAYS = {
    "maj": "majority",
    "wmaj": "weighted majority",
    "best": "likeliest",
    "pass": "one of them (bound)",
}


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--work", help="folder of the evaluation, to go on with a killed one")
    a = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        work = a.work or f"{scratch}/evaluation"
        words = f"--model {a.model} --task chain --split id ood_depth --max-tokens 64 --batch 256"
        words += f" --questions {a.questions} --draws {a.draws} --out {work}"
        resume = ["--resume"] if (pathlib.Path(work) / evaluate.SETTINGS).exists() else []
        summary = evaluate.run_command([*words.split(), *resume])
    found = {"command": "python benchmarks/search.py", "settings": summary["settings"]}
    found["splits"] = {split: curve(x, a.draws) for split, x in summary["splits"].items()}
    write_json(OUT / "search.json", found)
    write_text(OUT / "search.md", page(found))


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
        f"{settings['draws']} draws at temperature {settings['temperature']:g}. Shares of right "
        "answers in %, with 95 % intervals over questions; tokens read or written per question.",
    ]
    for split, rows in found["splits"].items():
        count = rows["1"]["greedy"]["questions"]
        lines = [["N", "tokens", *WAYS.values()], ["---:"] * (2 + len(WAYS))]
        for n, row in rows.items():
            if n == "1":
                for name, x in row.items():
                    tokens = f"{x['tokens']:.0f}"
                    lines.append([f"1, {name}", tokens, cell(x), *["="] * (len(WAYS) - 1)])
            else:
                tokens = f"{row['maj']['tokens']:.0f}"
                lines.append([n, tokens, *(cell(row[way]) for way in WAYS)])
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts += [f"## {split}, {count} questions", table]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])

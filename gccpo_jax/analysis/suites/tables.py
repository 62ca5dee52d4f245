"""Results as people read them: Markdown tables and a plot, made from the summary alone."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence

from gccpo_jax.analysis.suites import lucky_guess, rows
from gccpo_jax.analysis.suites.step_credit import GAINERS, GAPS, IN_TABLES, KINDS, RIVALS
from gccpo_jax.errors import UserError


def interval(x: Mapping | None, form: str = ".2f") -> str:
    """`estimate [low, high]`, a dash where undefined."""
    if not x or x["estimate"] is None:
        return "--"
    if x["low"] is None:
        return format(x["estimate"], form)
    return f"{x['estimate']:{form}} [{x['low']:{form}}, {x['high']:{form}}]"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])


def step_credit_tables(summary: Mapping) -> str:
    """The numbers of the step-credit test."""
    parts = {
        "auc": "all steps",
        "auc_sound_prefix": "sound prefix",
        "auc_wrong_only": "valid against wrong",
        "auc_sampled_only": "sampled only",
    }
    # A score that nothing was read for has no row: it was not asked for, or the task cannot.
    known = {name for name, auc in summary["auc"].items() if auc["estimate"] is not None}
    tabled = [name for name in IN_TABLES if name in known]
    aucs = table(
        ["score", "meaning", *parts.values()],
        [
            [f"`{name}`", meaning, *(interval(summary[part][name]) for part in parts)]
            for name, meaning in rows.SCORES.items()
            if name in known
        ],
    )
    gains = table(
        ["AUC of", *RIVALS],
        [
            [f"`{name}` minus", *(interval(gain.get(rival), "+.2f") for rival in RIVALS)]
            for name in GAINERS
            for gain in [summary["gain"][name]]
        ],
    )
    bench, scores = summary["process_bench"], summary["outscores"]
    parts_of_f1 = ("f1", "error", "correct")
    others = table(
        [
            "score",
            "P(sound-but-wrong > flawed-but-lucky)",
            "F1 earliest error",
            "on erroneous",
            "on correct",
        ],
        [
            [f"`{n}`", interval(scores[n]), *(interval(bench[n][k]) for k in parts_of_f1)]
            for n in tabled
        ],
    )
    means = table(
        ["score", *KINDS, *GAPS],
        [
            [
                f"`{n}`",
                *(interval(summary["means"][n]["means"][kind]) for kind in KINDS),
                *(interval(summary["means"][n]["gaps"][gap], "+.2f") for gap in GAPS),
            ]
            for n in tabled
        ],
    )
    return "\n\n".join(
        [
            "**AUC against validity**, pairs of one question and one step index, 95 % intervals by "
            "resampling questions:",
            aucs,
            "**Gain in AUC** (paired over the same resamples):",
            gains,
            "**Trajectories**:",
            others,
            "**Mean score by kind of step**, sound prefixes only:",
            means,
        ]
    )


def lucky_guess_table(summary: Mapping, guess: lucky_guess.Guess = lucky_guess.GUESS) -> str:
    """The numbers of a lucky-guess demonstration."""
    (cue, steps), lucky = guess.kinds, [guess.lucky] if guess.lucky else []
    kinds = [cue, *lucky, steps]
    aucs = {"AUC": "auc"} | ({"AUC, lucky only": "auc_lucky"} if lucky else {})
    return table(
        ["score", "meaning", *kinds, *aucs, "trajectories"],
        [
            [
                f"`{name}`",
                meaning,
                *(interval(x[k]) for k in (*kinds, *aucs.values())),
                str(x["defined"]),
            ]
            for name, meaning in guess.scores.items()
            for x in [summary["scores"][name]]
        ],
    )


def write(
    out: pathlib.Path, name: str, title: str, intro: str, tables: str, summary: Mapping
) -> list[pathlib.Path]:
    """Writes `<name>.json` and the generated part of `<name>.md`; keeps what people wrote in it.

    The generated part stands between two comment lines; text outside them (what the
    numbers mean) survives a new run.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    page = out / f"{name}.md"
    begin, end = "<!-- generated: begin -->", "<!-- generated: end -->"
    made = f"{begin}\n{intro}\n\n![{title}]({name}.png)\n\n{tables}\n{end}"
    old = page.read_text() if page.exists() else f"# {title}\n\n{begin}\n{end}\n"
    if begin not in old or end not in old:
        raise UserError(f"{page}: the lines {begin} and {end} are missing; restore or delete it")
    page.write_text(old[: old.index(begin)] + made + old[old.index(end) + len(end) :])
    return [page, out / f"{name}.json"]


def plot_bars(path: pathlib.Path, title: str, axis: str, bars: Mapping[str, Mapping]) -> None:
    """Horizontal bars with intervals, the highest on top, and a line at .5: chance, for an AUC."""
    pyplot = load_pyplot()
    names = [n for n, x in bars.items() if x["estimate"] is not None]
    names.sort(key=lambda n: bars[n]["estimate"])
    middle = [bars[n]["estimate"] for n in names]
    low = [max(0.0, bars[n]["estimate"] - bars[n]["low"]) for n in names]
    high = [max(0.0, bars[n]["high"] - bars[n]["estimate"]) for n in names]
    figure, axes = pyplot.subplots(figsize=(7.5, 0.36 * len(names) + 1.2), layout="constrained")
    axes.barh(names, middle, color="#4878a8", height=0.62)
    axes.errorbar(middle, range(len(names)), xerr=[low, high], fmt="none", ecolor="#222", capsize=3)
    axes.axvline(0.5, color="#b03030", linewidth=1, linestyle="--")
    axes.set(xlabel=axis, title=title, xlim=(min(0.0, *middle), 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140, metadata={"Software": None})
    pyplot.close(figure)


def load_pyplot():
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("plots need matplotlib: pip install 'gccpo-jax[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot

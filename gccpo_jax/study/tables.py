"""The page of a study, from its summary alone: Markdown with every figure's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gccpo_jax.analysis.suites.tables import table

PLOTS = {
    "study": "What the method gains, by family",
    "study_path": "In distribution against without the cue's help, as training goes on",
    "study_curves": "Accuracy by forward tokens",
    "study_ood": "Accuracy on the other families",
    "study_cost": "Cost against accuracy",
}
"""{file without ending: caption}; the first stands above the tables."""


def percent(x: Mapping[str, Any], sign: str = "") -> str:
    """`48.5 [41.0, 55.9]`, in points.

    >>> percent({"estimate": 0.485, "low": 0.41, "high": 0.559})
    '48.5 [41.0, 55.9]'
    """
    values = (100 * x[key] for key in ("estimate", "low", "high"))
    return "{} [{}, {}]".format(*(f"{value:{sign}.1f}" for value in values))


def p_value(p: float) -> str:
    """Three decimals, `<.001` below them."""
    return "<.001" if p < 0.001 else f"{p:.3f}"


def intro(summary: Mapping) -> str:
    """What was run, in a paragraph."""
    seeds = len(summary["seeds"])
    kind = "confirmation" if summary["confirmation_seeds"] else "search"
    arms = ", ".join(f"{arm} (`{words}`)" for arm, words in summary["arms"].items())
    return (
        f"{seeds} {kind} seeds of each arm; the method is {summary['method']}. Arms: {arms}. "
        "Accuracies are greedy, in percent; intervals are 95 %, over seeds, templates and "
        "items (`gccpo_jax/study/statistics.py`). p is of no difference, `p, Holm` of the same "
        "over all families of a contrast, `p, equal` of a difference of a point or more."
    )


def tables(summary: Mapping) -> str:
    """Every table, with its heading."""
    parts = [_contrast_parts(summary, "contrasts", summary["compared_at"])]
    if summary["compared_at"] != "equal updates":
        parts.append(_contrast_parts(summary, "contrasts_at_equal_updates", "equal updates"))
    for comparison, arms in summary["accuracy"].items():
        parts.append([f"**Accuracy at {comparison}**:", _accuracies(arms)])
        parts.append(
            [f"**Cost and interquartile means at {comparison}**:", _cost(summary, comparison)]
        )
    parts.append(["**Seed by seed** (exact McNemar, last checkpoints):", _mcnemar(summary)])
    images = [f"![{caption}]({name}.png)" for name, caption in list(PLOTS.items())[1:]]
    return "\n\n".join([*(line for part in parts for line in part), *images])


def _contrast_parts(summary: Mapping, key: str, comparison: str) -> list[str]:
    found = []
    for name, rows in summary[key].items():
        shown = name.replace("method", summary["method"], 1)
        found += [f"**{shown} at {comparison}**, in points:", _contrast(rows)]
    return found


def _contrast(rows: Mapping[str, Mapping]) -> str:
    return table(
        ["family", "difference", "p", "p, Holm", "p, equal", "P(improvement)"],
        [
            [
                f"`{family}`",
                percent(x, "+"),
                p_value(x["p"]),
                p_value(x["p_holm"]),
                p_value(x["equivalence"]),
                f"{x['probability_of_improvement']:.2f} [{x['probability_low']:.2f}, "
                f"{x['probability_high']:.2f}]",
            ]
            for family, x in rows.items()
        ],
    )


def _accuracies(arms: Mapping[str, Mapping]) -> str:
    rows = next(iter(arms.values()))
    return table(
        ["family", "before", *arms],
        [
            [f"`{family}`", f"{100 * x['before']:.1f}"]
            + [percent(found[family]) for found in arms.values()]
            for family, x in rows.items()
        ],
    )


def _cost(summary: Mapping, comparison: str) -> str:
    cost, means = summary["cost"][comparison], summary["iqm"][comparison]
    groups = [g for g in ("primary", "others") if any(g in x for x in means.values())]
    return table(
        ["arm", "updates", "forward tokens", *(f"IQM, {name} families" for name in groups)],
        [
            [arm, f"{x['updates']:,.0f}", f"{x['tokens']:,.0f}"]
            + [percent(means[arm][name]) for name in groups]
            for arm, x in cost.items()
        ],
    )


def _mcnemar(summary: Mapping) -> str:
    lines: list[Sequence[str]] = []
    for name, of_families in summary["mcnemar"].items():
        shown = name.replace("method", summary["method"], 1)
        for family, seeds in of_families.items():
            for seed, x in seeds.items():
                counts = f"{x['first']} : {x['second']}"
                gain = {"estimate": x["difference"], "low": x["low"], "high": x["high"]}
                row = [shown, f"`{family}`", seed, counts, percent(gain, "+")]
                lines.append([*row, p_value(x["p"]), f"{x['h']:+.2f}"])
    header = ["contrast", "family", "seed", "only one is right", "difference", "p", "Cohen's h"]
    return table(header, lines)

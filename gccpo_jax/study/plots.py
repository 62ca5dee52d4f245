"""Plots of a study, from its summary alone. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gccpo_jax.analysis.suites.tables import load_pyplot
from gccpo_jax.study.tables import PLOTS

_ALPHA = 0.18


def write_plots(summary: Mapping, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes `<name>.png` of every plot in `tables.PLOTS`; their paths."""
    draw = {
        "study": _forest,
        "study_path": _path,
        "study_curves": _curves,
        "study_ood": _bars,
        "study_cost": _cost,
    }
    return [_save(out / f"{name}.png", draw[name](summary), title) for name, title in PLOTS.items()]


def _save(path: pathlib.Path, figure: Any, title: str) -> pathlib.Path:
    figure.suptitle(title, fontsize=11)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    figure.savefig(path, dpi=140, metadata={"Software": None})
    load_pyplot().close(figure)
    return path


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    return load_pyplot().subplots(
        1, columns, figsize=(width, height), layout="constrained", squeeze=False
    )


def _points(rows: Sequence[Mapping]) -> tuple[list[float], list[list[float]]]:
    """Estimates and how far their intervals reach, in percent."""
    middle = [100 * x["estimate"] for x in rows]
    reach = [[100 * abs(x["estimate"] - x[end]) for x in rows] for end in ("low", "high")]
    return middle, reach


def _forest(summary: Mapping) -> Any:
    """The method against each rival: a panel per contrast, a row per family."""
    names, families = list(summary["contrasts"]), summary["families"]
    figure, (panels,) = _figure(3.2 * len(names) + 1.5, 0.3 * len(families) + 1.3, len(names))
    for place, (name, axes) in enumerate(zip(names, panels, strict=True)):
        rows = [summary["contrasts"][name][family] for family in families]
        middle, reach = _points(rows)
        colors = ["#b03030" if f in summary["primary"] else "#333333" for f in families]
        for y, (x, color) in enumerate(zip(middle, colors, strict=True)):
            ends = [[reach[0][y]], [reach[1][y]]]
            axes.errorbar([x], [y], xerr=ends, fmt="o", color=color, capsize=3, markersize=4)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_yticks(range(len(families)), families if place == 0 else [""] * len(families))
        axes.invert_yaxis()
        shown = name.replace("method", summary["method"], 1)
        axes.set(xlabel=f"points, at {summary['compared_at']}", title=shown)
    return figure


def _path(summary: Mapping) -> Any:
    """Each arm's way through training: in distribution across, a family without the cue up."""
    figure, ((axes,),) = _figure(6.2, 4.8)
    across, up = summary["in_distribution"], (summary["primary"] or summary["families"])[-1]
    for arm, points in summary["curves"].items():
        known = [p["families"] for p in points if {across, up} <= set(p["families"])]
        xs, x_reach = _points([p[across] for p in known])
        ys, y_reach = _points([p[up] for p in known])
        (line,) = axes.plot(xs, ys, marker=".", linewidth=1.2, label=arm)
        last = [[r[-1:] for r in reach] for reach in (x_reach, y_reach)]
        axes.errorbar(
            xs[-1:], ys[-1:], xerr=last[0], yerr=last[1], fmt="o", color=line.get_color(), capsize=3
        )
    axes.set(xlabel=f"accuracy on {across}, %", ylabel=f"accuracy on {up}, %")
    axes.legend(fontsize=8)
    return figure


def _curves(summary: Mapping) -> Any:
    """Accuracy by forward tokens, a panel per family, bands are intervals."""
    curves = summary["curves"]
    families = list(next(iter(curves.values()))[0]["families"])
    figure, (panels,) = _figure(3.4 * len(families) + 0.8, 3.6, len(families))
    for family, axes in zip(families, panels, strict=True):
        for arm, points in curves.items():
            tokens = [p["tokens"] / 1e6 for p in points]
            rows = [p["families"][family] for p in points]
            (line,) = axes.plot(tokens, _points(rows)[0], marker=".", linewidth=1.2, label=arm)
            ends = ([100 * row[end] for row in rows] for end in ("low", "high"))
            axes.fill_between(tokens, *ends, color=line.get_color(), alpha=_ALPHA, linewidth=0)
        axes.set(xlabel="forward tokens, millions", ylabel="accuracy, %", title=family)
    panels[0].legend(fontsize=8)
    return figure


def _bars(summary: Mapping) -> Any:
    """Accuracy at the end, every family, a bar per arm."""
    arms, families = summary["accuracy"][summary["compared_at"]], summary["families"]
    width = 0.8 / len(arms)
    figure, ((axes,),) = _figure(0.45 * len(families) * max(len(arms) / 2, 1) + 2.5, 4.2)
    for place, (arm, rows) in enumerate(arms.items()):
        middle, reach = _points([rows[family] for family in families])
        at = [n + (place - (len(arms) - 1) / 2) * width for n in range(len(families))]
        axes.bar(at, middle, width, yerr=reach, capsize=2, label=arm, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(families)), families, rotation=40, ha="right")
    axes.set(ylabel=f"accuracy at {summary['compared_at']}, %")
    axes.legend(fontsize=8)
    return figure


def _cost(summary: Mapping) -> Any:
    """Forward tokens against accuracy on a primary family, at every comparison."""
    figure, ((axes,),) = _figure(6.2, 4.4)
    family = (summary["primary"] or summary["families"])[0]
    for marker, (comparison, arms) in zip("os", summary["accuracy"].items(), strict=False):
        for place, (arm, rows) in enumerate(arms.items()):
            middle, reach = _points([rows[family]])
            tokens = summary["cost"][comparison][arm]["tokens"] / 1e6
            axes.errorbar(
                [tokens],
                middle,
                yerr=reach,
                fmt=marker,
                color=f"C{place}",
                capsize=3,
                label=f"{arm}, {comparison}",
            )
    axes.set(xlabel="forward tokens, millions", ylabel=f"accuracy on {family}, %", xscale="log")
    axes.legend(fontsize=7)
    return figure

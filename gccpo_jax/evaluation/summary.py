"""Everything that an evaluation says, from its results files alone; the same as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gccpo_jax.evaluation.figures import Row, Same, by_kind, figures, sizes
from gccpo_jax.evaluation.paired import compare


def summarise(
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    same: Same,
    against: tuple[str, Sequence[Row]] | None = None,
) -> dict[str, Any]:
    """Figures with intervals, fit for JSON.

    `splits` and `kinds` (of meta's fields) hold the figures, `against` the differences to another
    evaluation (its name, its rows), of the splits that both have.
    """
    parts = parted(rows)
    found: dict[str, Any] = {
        "settings": dict(settings),
        "splits": {split: figures(part, same) for split, part in parts.items()},
        "kinds": {split: _kinds(part, same) for split, part in parts.items()},
    }
    if against:
        name, theirs = against
        others = parted(theirs)
        found["against"] = {"folder": name} | {
            split: compare(part, others[split], name)
            for split, part in parts.items()
            if split in others
        }
    return found


def parted(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by split, in the order in which splits come."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["split"], []).append(row)
    return found


def _kinds(rows: Sequence[Row], same: Same) -> dict[str, dict[str, dict]]:
    found: dict[str, dict[str, dict]] = {}
    most = sizes(len(rows[0]["draws"]))[-1:]
    for field, kind, part in by_kind(rows):
        found.setdefault(field, {})[kind] = figures(part, same, most)
    return found


def page(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown."""
    settings = summary["settings"]
    names = list(next(iter(summary["splits"].values())))
    last = f"@{settings['draws']}"
    few = [name for name in names if name in ("greedy", "beam") or name.endswith(last)]
    parts = [
        f"{settings['model']} on {settings['task']}: shares of right answers in %, with 95 % "
        "intervals over questions.",
        _table("split", names, summary["splits"].items()),
    ]
    for split, fields in summary["kinds"].items():
        for field, kinds in fields.items():
            parts.append(f"{split} by {field}:")
            parts.append(_table(field, few, kinds.items()))
    if "against" in summary:
        parts.append(_against(summary["against"]))
    if settings["skipped"]:
        skipped = ", ".join(f"{count} of {split}" for split, count in settings["skipped"].items())
        parts.append(f"Not asked, since their prompts do not fit into the context: {skipped}.")
    return "\n\n".join(parts) + "\n"


def _table(first: str, names: Sequence[str], lines: Iterable[tuple[str, Mapping]]) -> str:
    header = [first, "questions", *names]
    body = [
        [name, str(row["greedy"]["questions"]), *(cell(row[column]) for column in names)]
        for name, row in lines
    ]
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *body])


def _against(found: Mapping[str, Any]) -> str:
    lines = []
    for split, row in found.items():
        if split == "folder":
            continue
        for name, x in row.items():
            tested = ""
            if x.get("p") is not None:
                tested = (
                    f"; {x['first']} right here alone, {x['second']} there alone, exact "
                    f"McNemar p = {x['p']:.3g}"
                )
            lines.append(
                f"- {split}, {name}: {cell(x, 'difference', '+.1f')} points over {x['questions']} "
                f"questions{tested}"
            )
    return "\n".join([f"Minus {found['folder']}, on the same questions and draws:\n", *lines])


def cell(x: Mapping[str, Any], name: str = "value", form: str = ".1f") -> str:
    """`estimate [low, high]` in percent, a dash where there is none.

    >>> cell({"value": 0.5, "low": 0.25, "high": 0.75})
    '50.0 [25.0, 75.0]'
    """
    if x[name] is None:
        return "--"
    value, low, high = (100 * x[key] for key in (name, "low", "high"))
    lost = f", {x['unscorable']:.1%} unscorable" if x.get("unscorable") else ""
    return f"{value:{form}} [{low:{form}}, {high:{form}}]{lost}"

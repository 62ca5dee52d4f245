"""Greedy responses as predictions for a harness that scores elsewhere."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from gccpo_jax.runtime.workdir import write_text
from gccpo_jax.tasks.base import Harness, Item

FILE = "predictions.jsonl"


def write_predictions(
    out: pathlib.Path,
    rows: Sequence[Mapping[str, Any]],
    items: Sequence[Item],
    model: str,
    harness: Harness,
) -> str:
    """Writes a line per question; one line that says what was checked and what was not.

    Args:
      rows: lines of the results file. items: their questions, in any order.
    """
    lines = [harness.line(row["name"], model, row["greedy"]["text"]) for row in rows]
    write_text(out / FILE, "".join(json.dumps(line) + "\n" for line in lines))
    by_id = {item.id: item for item in items}
    found = [harness.check(by_id[row["id"]], row["greedy"]["text"]) for row in rows]
    parse = sum(one["parses"] for one in found)
    known = [one["applies"] for one in found if one["applies"] is not None]
    return (
        f"{FILE}: {parse} of {len(found)} patches can be read, {sum(known)} of {len(known)} tried "
        f"on given files apply; whether an issue is solved only the {harness.name} harness says"
    )

"""SWE-bench: issues of real repositories, answered by a patch. Scoring is its own harness's.

Rows as published (`instance_id`, `problem_statement`, ...); where one has `text`, that is the
prompt. `files` ({path: contents}) lets a patch be tried on them. No outcome is known here, so every
response is unscorable: `evaluate` writes predictions for the harness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gccpo_jax.tasks.base import Harness, Item, Task
from gccpo_jax.tasks.code.coded import CodeRow, reader
from gccpo_jax.tasks.code.patches import apply, parse, patch_in

read_records = reader("instance_id", "problem_statement")
INSTRUCTION = (
    "Solve this issue. Answer with one patch, as `git diff` writes it, in a block of code."
)


def of_splits(splits: Mapping[str, Sequence[Item]], chat: bool = True) -> Task:
    """The task over items that are at hand."""
    return Task(
        name="swe_bench",
        splits=splits,
        prompt=lambda item: item.question,
        extract=lambda response: patch_in(response) or None,
        verify=lambda item, response: None,
        needs_gold=False,
        harness=Harness("SWE-bench", prediction, checked),
        cues=("diff --git ",),
        chat=chat,
    )


def to_item(row: CodeRow, number: int) -> Item:
    """An item of a row."""
    asked = row.fields.get("text")
    if not asked:
        asked = f"{row.fields.get('repo', '')}\n\n{row['problem_statement']}\n\n{INSTRUCTION}\n"
    meta = {"id": row["instance_id"], "files": row.fields.get("files") or {}}
    return Item(number, asked.strip() + "\n", None, row.fields.get("patch"), meta)


def prediction(item_id: str, model: str, response: str) -> dict[str, str]:
    """One line for the harness."""
    return {
        "instance_id": item_id,
        "model_name_or_path": model,
        "model_patch": patch_in(response),
    }


def checked(item: Item, response: str) -> dict[str, Any]:
    """What can be told without a repository: {"parses", "applies", "why"}; None is not known."""
    try:
        patches = parse(patch_in(response))
    except ValueError as error:
        return {"parses": False, "applies": None, "why": str(error)}
    if not item.meta["files"]:
        return {"parses": True, "applies": None, "why": "no files were given"}
    try:
        apply(patches, item.meta["files"])
    except ValueError as error:
        return {"parses": True, "applies": False, "why": str(error)}
    return {"parses": True, "applies": True, "why": ""}

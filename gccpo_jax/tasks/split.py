"""Training and held-out items from record sources, shared by the file tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.records import Record, has_split, read_records

_log = logging.getLogger(__name__)


def file_splits(
    path: str, eval_path: str, held_out: int, to_item: Callable[[Record, int], Item]
) -> dict[str, list[Item]]:
    """The splits "train" and "id".

    "id" is, first that applies: `eval_path`; the source's own test split, if it
    is a directory or tensorflow-datasets; the last `held_out` questions of the
    file (at most a fifth of it), which are then no training questions.
    Questions of "id" that also stand in "train" are taken out of "train".

    Args:
        path: where training questions are, see `read_records`.
        eval_path: where held-out questions are, or "".
        held_out: size of the tail.
        to_item: makes an item of a record and an id.
    """
    if not path:
        raise UserError("this task reads files: set data.path to a .jsonl file or a directory")
    train = read_records(path, "train")
    if eval_path:
        held = read_records(eval_path, "test")
    elif has_split(path, "test"):
        held = read_records(path, "test")
    else:
        train, held = _tail(train, held_out, path)
    return {
        "train": [to_item(record, n) for n, record in enumerate(_without(train, held, path))],
        "id": [to_item(record, (1 << 24) + n) for n, record in enumerate(held)],
    }


def _tail(records: list[Record], size: int, path: str) -> tuple[list[Record], list[Record]]:
    size = min(size, len(records) // 5)
    if size < 1:
        raise UserError(
            f"{path}: {len(records)} questions are too few to hold some out; "
            "set data.eval_path, or bring at least 5"
        )
    return records[:-size], records[-size:]


def _without(train: Sequence[Record], held: Sequence[Record], path: str) -> list[Record]:
    questions = {record.question for record in held}
    kept = [record for record in train if record.question not in questions]
    if not kept:
        raise UserError(f"{path}: every training question is also held out; give other files")
    if len(kept) < len(train):
        count = len(train) - len(kept)
        _log.warning("%s: %d held-out questions taken out of training", path, count)
    return kept

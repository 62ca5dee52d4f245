"""Question-and-answer records from files (JSON Lines, Parquet, tensorflow-datasets), in splits.

A record is what a source says, checked and not yet interpreted; what an answer
means is the task's business. Every message names the file and the line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from gccpo_jax.errors import UserError, blame
from gccpo_jax.tasks import published
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.json_rows import (
    LFS,
    check_object,
    json_lines,
    optional_text,
    text_field,
)

SHAPE = '{"question": "...", "answer": "..."} with an optional "solution" and "id"'
PACKED = ("", ".gz", ".zst", ".bz2", ".xz")
SUFFIXES = (".parquet", *(kind + packed for kind in (".jsonl", ".json") for packed in PACKED))
COLUMNS = published.COLUMNS  # all that is read
_SHARD = re.compile(r"(.*?)[-_.]?(\d+)(?:-of-(\d+))?")
TFDS = "tfds:"


@dataclasses.dataclass(frozen=True)
class Record:
    """One question as its source has it."""

    question: str
    answer: str
    solution: str | None
    id: str  # the source's id, or where it stands
    where: str  # "file:line", for messages
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)  # level, source, ...


def read_records(path: str, split: str) -> list[Record]:
    """All records of a split.

    Args:
        path: a JSON or Parquet file (then `split` is not looked at), a directory with
            a `train...` and a `test...` file, or numbered shards of each (a Hugging
            Face data set on disk), or `tfds:<name>` for tensorflow-datasets. JSON is an
            object per line or one list, maybe compressed.
        split: "train" or "test".

    Raises:
        UserError: nothing there, or a malformed record.
    """
    if path.startswith(TFDS):
        return _checked(_tfds_rows(path.removeprefix(TFDS), split), path)
    if "://" in path:
        raise UserError(f"{path}: expected a path on this machine; download the file and give it")
    file = pathlib.Path(path).expanduser()
    files = _files_of(file, split) if file.is_dir() else [file]
    records = [record for one in files for record in _read_file(one)]
    if not records:
        raise UserError(f"{path}: no questions in it; expected one object per line, {SHAPE}")
    return records


def has_test_split(path: str) -> bool:
    """Whether `path` names a source with splits of its own, and one to test on."""
    folder = pathlib.Path(path).expanduser()
    return path.startswith(TFDS) or folder.is_dir() and bool(_candidates(folder, "test"))


def _candidates(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    return sorted(f for f in folder.rglob(f"{split}*") if f.name.endswith(SUFFIXES) and f.is_file())


def _files_of(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    files = _candidates(folder, split)
    if not files:
        names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
        found = ", ".join(names[:8]) or "nothing"
        raise UserError(
            f"{folder}: no file named {split}*.jsonl, .json or .parquet; it holds {found}"
        )
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        raise UserError(f"{folder}: several data sets, choose one of {', '.join(folders)}")
    _check_shards(folder, split, files)
    return files


def _check_shards(folder: pathlib.Path, split: str, files: Sequence[pathlib.Path]) -> None:
    """Raises UserError unless the files are one file, or all numbered shards of one data set."""
    kinds, numbers, wholes = set(), [], set()
    for file in files:
        suffix = next(end for end in sorted(SUFFIXES, key=len)[::-1] if file.name.endswith(end))
        found = _SHARD.fullmatch(file.name.removesuffix(suffix))
        kinds.add((found[1] if found else file.name, suffix))
        numbers.append(int(found[2]) if found else None)
        wholes.add(int(found[3]) if found and found[3] else None)
    names = ", ".join(file.name for file in files[:8])
    if len(files) > 1 and (len(kinds) > 1 or None in numbers or len({*numbers}) < len(numbers)):
        field = "data.path" if split == "train" else "data.eval_path"
        raise UserError(
            f"{folder}: several files for {split!r} that are not numbered shards of one: {names}; "
            f"name one of them as {field}, or move the others"
        )
    if wholes != {None} and wholes != {len(files)}:
        count = max(whole or 0 for whole in wholes)
        raise UserError(f"{folder}: {len(files)} of {count} shards for {split!r}: {names}")


def _read_file(file: pathlib.Path) -> list[Record]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; give a .jsonl or .parquet file or a directory")
    if file.suffix in (".csv", ".tsv"):
        raise UserError(f"{file}: a table of text; write JSON Lines, {SHAPE}, or Parquet")
    with contextlib.suppress(OSError), file.open("rb") as opened:
        begin = opened.read(len(LFS))
        if begin.startswith(b"PAR1") or (file.suffix == ".parquet" and begin != LFS):
            return _checked(_parquet_rows(file), str(file))
    if file.suffix == ".xml":
        return _checked(_xml_rows(file), str(file))
    return _records(json_lines(file, SHAPE), str(file))


def _parquet_rows(file: pathlib.Path) -> Iterable[Mapping[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{file}: reading Parquet needs pyarrow (pip install pyarrow)") from error
    try:
        source = pyarrow.parquet.ParquetFile(file)
        names = source.schema_arrow.names
        table = source.read(columns=[name for name in COLUMNS if name in names])
        if "id" in table.column_names:  # of any type, dates too
            at = table.column_names.index("id")
            table = table.set_column(at, "id", table["id"].cast("string"))
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file}: not a Parquet file that can be read ({error})") from error
    # A column that is not there is named beside all that are.
    others = dict.fromkeys(name for name in names if name not in COLUMNS)
    return [others | row for row in rows] if {"question", "answer"} - {*names} else rows


def _tfds_rows(name: str, split: str) -> Iterable[Mapping[str, Any]]:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"{TFDS}{name} needs tensorflow-datasets (pip install 'gccpo-jax[tfds]')"
        ) from error
    # Without TensorFlow the text data sets register only when they are imported.
    with contextlib.suppress(ImportError):
        importlib.import_module(f"tensorflow_datasets.text.{name}")
    try:
        source = tensorflow_datasets.data_source(name, split=split)  # needs no TensorFlow to read
    except Exception as error:  # not prepared and no network, no such data set, ...
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{TFDS}{name}, split {split}: {reason}; prepare it once where TensorFlow and a "
            f"network are: tfds build {name} --file_format=array_record"
        ) from error
    return [{key: _text(row[key]) for key in ("question", "answer")} for row in source]


def _text(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _xml_rows(file: pathlib.Path) -> Iterable[Mapping[str, Any]]:
    """The problems of an XML file (ASDiv): attributes and the text of children."""
    with blame(file, "fetch it again"):
        problems = list(ElementTree.parse(file).iter("Problem"))
    return [problem.attrib | {child.tag: child.text for child in problem} for problem in problems]


def _checked(rows: Iterable[Mapping[str, Any]], source: str) -> list[Record]:
    return _records(((row, f"{source}:{n}") for n, row in enumerate(rows, start=1)), source)


def _records(rows: Iterable[tuple[Any, str]], source: str) -> list[Record]:
    """Rows with their places as records, without those that `published.is_left_out`."""
    found, left_out = [], 0
    for row, where in rows:
        check_object(row, where, SHAPE)
        row = published.plain(row)
        if published.is_left_out(row):
            left_out += 1
        else:
            found.append(_record(row, where))
    if left_out:
        _log.warning("%s: %d items left out, whose answer is no whole number", source, left_out)
    return found


def _record(row: Mapping[str, Any], where: str) -> Record:
    return Record(
        question=text_field(row, "question", where, SHAPE),
        answer=text_field(row, "answer", where, SHAPE),
        solution=optional_text(row, "solution", where, SHAPE),
        id=where if row.get("id") in (None, "") else str(row["id"]),
        where=where,
        labels=published.labels(row),
    )


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
    if eval_path or has_test_split(path):
        held = read_records(eval_path or path, "test")
    else:
        train, held = _tail(train, held_out, path)
    return {
        "train": [to_item(record, n) for n, record in enumerate(_without(train, held, path))],
        "id": [to_item(record, held_out_id(n)) for n, record in enumerate(held)],
    }


def published_splits(
    path: str,
    eval_path: str,
    read: Callable[[str, str], Sequence[Any]],
    to_item: Callable[[Any, int], Item],
) -> dict[str, list[Item]]:
    """The splits "train" (of `path`) and "id" (of `eval_path`); one of the two is enough."""
    if not (path or eval_path):
        raise UserError("this task reads files: set data.path or data.eval_path to a .jsonl file")
    train = read(path, "train") if path else []
    held = read(eval_path, "test") if eval_path else []
    return {
        "train": [to_item(row, n) for n, row in enumerate(train)],
        "id": [to_item(row, held_out_id(n)) for n, row in enumerate(held)],
    }


def held_out_id(number: int, file: int = 0) -> int:
    """The id of a held-out question by its place: apart from those of training and other files."""
    return ((file + 1) << 24) + number


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
    if again := len(kept) - len({record.question for record in kept}):
        _log.warning("%s: %d training questions are there before and count again", path, again)
    return kept

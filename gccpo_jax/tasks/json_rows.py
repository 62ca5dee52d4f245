"""Rows of JSON Lines files and their text fields, with messages that say where."""

from __future__ import annotations

import json
import pathlib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from gccpo_jax.errors import UserError


def json_lines(file: pathlib.Path, expected: str) -> Iterator[tuple[Any, str]]:
    """The value of each line that is not blank, with its "file:line".

    Args:
        file: UTF-8, with or without a byte order mark.
        expected: what a line should hold, for the message.

    Raises:
        UserError: the file cannot be read, or a line is not UTF-8 or not JSON.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(content.split(b"\n"), start=1):
        where = f"{file}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 (byte {error.start} of the line)") from error
        if not text:
            continue
        try:
            # ValueError covers what is not JSON and integers of thousands of digits.
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}); expected {expected}") from error
        yield row, where


def check_object(row: Any, where: str, expected: str) -> None:
    """Raises UserError unless the row is a JSON object."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: {type(row).__name__} instead of an object; expected {expected}")


def question_field(row: Mapping[str, Any], where: str, expected: str) -> str:
    """The question of a row; MATH files and ProcessBench call it "problem"."""
    name = "problem" if "question" not in row and "problem" in row else "question"
    return text_field(row, name, where, expected)


def text_field(row: Mapping[str, Any], name: str, where: str, expected: str) -> str:
    """A field that must hold some text, without the spaces around it.

    Raises:
        UserError: no such field, not a string, blank, or half of a surrogate pair in it.
    """
    if name not in row:
        raise UserError(f"{where}: no field {name!r} among {sorted(row)}; expected {expected}")
    value = row[name]
    if not isinstance(value, str):
        kind = type(value).__name__
        raise UserError(
            f"{where}: {name!r} is {reprlib.repr(value)} ({kind}); expected a string in quotes"
        )
    if not value.strip():
        raise UserError(f"{where}: {name!r} is empty; expected some text")
    check_unicode(value, name, where)
    return value.strip()


def optional_text(row: Mapping[str, Any], name: str, where: str, expected: str) -> str | None:
    """As `text_field`; None where the field is missing or null."""
    return None if row.get(name) is None else text_field(row, name, where, expected)


def check_unicode(value: str, name: str, where: str) -> None:
    """Raises UserError for a lone surrogate, which JSON can spell and no tokenizer reads."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {name!r} has half of a surrogate pair, {ascii(value[error.start])}, at "
            f"character {error.start}; write the character itself"
        ) from error

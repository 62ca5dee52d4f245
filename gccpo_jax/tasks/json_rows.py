"""Rows of JSON files and their text fields, with messages that say where."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import pathlib
import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from gccpo_jax.errors import UserError

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[\s,]*")
LFS = b"version https://git-lfs.github.com/spec/"
_OTHERS = {  # how files begin that hold no rows, what they are and what to do
    LFS: "a Git LFS pointer, not the file it stands for; fetch that with: git lfs pull",
    b"PK\x03\x04": "a ZIP archive; unpack it and give the file inside",
    b"ARROW1": "an Arrow file; write it as Parquet or JSON Lines (Dataset.to_parquet, to_json)",
    b"<": "a web page or XML, not JSON; download the file itself",
}


def json_lines(file: pathlib.Path, expected: str) -> Iterator[tuple[Any, str]]:
    """The value of each line that is not blank, with its "file:line".

    A file that is one list, or whose values go over several lines, is read value by value, with
    the line on which each begins.

    Args:
        file: UTF-8, UTF-16 or UTF-32, with or without a byte order mark; maybe compressed.
        expected: what a line should hold, for the message.

    Raises:
        UserError: the file cannot be read, or it is not text or not JSON.
    """
    content = content_of(file)
    lines = enumerate(content.split(b"\n"), start=1)
    first = next((line for line in content.split(b"\n", 3) if line.strip()), b"")
    if not _stands_alone(first, content):
        yield from _values(content, file, expected)
        return
    for number, line in lines:
        where = f"{file}:{number}"
        try:
            text = line.decode("utf-8").strip()
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


def content_of(file: pathlib.Path) -> bytes:
    """The file's text as UTF-8 without a byte order mark, unpacked.

    Raises:
        UserError: it cannot be read or unpacked, or it is something else that can be recognised.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    content = _unpacked(content, file)
    for begin, told in _OTHERS.items():
        if content[:200].lstrip().startswith(begin):
            raise UserError(f"{file}: {told}")
    encoding = _encoding_of(content)
    if encoding is None:
        return content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not {encoding} (byte {error.start}); write UTF-8") from error


def _unpacked(content: bytes, file: pathlib.Path) -> bytes:
    try:
        if content.startswith(b"\x1f\x8b"):
            return gzip.decompress(content)
        if content.startswith(b"BZh"):
            return bz2.decompress(content)
        if content.startswith(b"\xfd7zXZ\0"):
            return lzma.decompress(content)
        if content.startswith(b"\x28\xb5\x2f\xfd"):
            import zstandard

            return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    except ImportError as error:
        raise UserError(
            f"{file}: reading Zstandard needs zstandard (pip install zstandard), or unpack it"
        ) from error
    except Exception as error:  # each library has errors of its own
        raise UserError(f"{file}: cannot be unpacked ({error}); fetch it again") from error
    return content


def _encoding_of(content: bytes) -> str | None:
    """UTF-16 or UTF-32, by its mark or by the zeros beside the first character; else None."""
    head = content[:4]
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    if len(head) == 4 and head[0] == 0:
        return "utf-16-be" if head[1] else "utf-32-be"
    if len(head) == 4 and head[1] == 0:
        return "utf-16-le" if head[2] else "utf-32-le"
    return None


def _stands_alone(first: bytes, content: bytes) -> bool:
    """Whether the first line is a value of its own, or nothing that more lines could mend."""
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return not first.strip() or first.strip()[:1] not in b"[{" or len(first) > 1000
    return not (isinstance(value, list) and content.strip() == first.strip())


def _values(content: bytes, file: pathlib.Path, expected: str) -> Iterator[tuple[Any, str]]:
    """The values of a text, whatever its lines are; of a list, its members."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}:{number}: not UTF-8 (byte {error.start})") from error
    place = _SPACE.match(text).end()
    if text[place] == "[":
        if not text.rstrip().endswith("]"):
            raise UserError(f"{file}: its list does not end; fetch the file again")
        place, text = place + 1, text.rstrip().removesuffix("]")
    number, counted = 1, 0
    while (place := _SPACE.match(text, place).end()) < len(text):
        number, counted = number + text.count("\n", counted, place), place
        try:
            row, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}:{number}: not JSON ({error}); expected {expected}") from error
        yield row, f"{file}:{number}"


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

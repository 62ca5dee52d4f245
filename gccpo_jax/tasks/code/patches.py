"""Patches in unified form, as `git diff` writes them: found in a response, read, applied."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

_FENCE = re.compile(r"^```(?:diff|patch)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_BEGIN = re.compile(r"^(?:diff --git |--- )", re.MULTILINE)
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
NOWHERE = "/dev/null"


@dataclasses.dataclass(frozen=True)
class Hunk:
    """A run of lines: what is there, and what takes its place."""

    start: int  # line of the old file, from 1
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class FilePatch:
    """What a patch does to one file; no path before it makes one, none after it removes one."""

    old: str | None
    new: str | None
    hunks: tuple[Hunk, ...]


def patch_in(response: str) -> str:
    """The patch that a response holds: its last fenced one, else from where one begins; "" if none.

    >>> patch_in("Sure:\\n--- a/x\\n+++ b/x\\n")
    '--- a/x\\n+++ b/x\\n'
    """
    fenced = [text for text in _FENCE.findall(response) if _BEGIN.search(text)]
    text = fenced[-1] if fenced else response
    found = _BEGIN.search(text)
    return text[found.start() :].rstrip("\n") + "\n" if found else ""


def parse(patch: str) -> list[FilePatch]:
    """The files of a patch.

    Raises:
      ValueError: it is none; with the line, and what is wrong there.
    """
    lines, n, found = patch.split("\n"), 0, []
    while n < len(lines):
        if not lines[n].startswith("--- "):
            if lines[n].startswith("@@"):
                raise ValueError(f"line {n + 1}: a hunk of no file")
            n += 1
            continue
        if n + 1 == len(lines) or not lines[n + 1].startswith("+++ "):
            raise ValueError(f"line {n + 2}: expected '+++ b/<path>'")
        old, new = _path(lines[n], "a/"), _path(lines[n + 1], "b/")
        n, hunks = n + 2, []
        while n < len(lines) and (head := _HUNK.match(lines[n])):
            hunk, n = _hunk(lines, n, head)
            hunks.append(hunk)
        if not hunks or old is new is None:
            raise ValueError(f"line {n + 1}: a file without a hunk")
        found.append(FilePatch(old, new, tuple(hunks)))
    if not found:
        raise ValueError("line 1: no file in it")
    return found


def _path(line: str, prefix: str) -> str | None:
    path = line[4:].split("\t")[0].strip()
    return None if path == NOWHERE else path.removeprefix(prefix)


def _hunk(lines: Sequence[str], n: int, head: re.Match[str]) -> tuple[Hunk, int]:
    """The hunk at line n, and the line after it."""
    first, left_old, left_new = n, *(int(count or 1) for count in (head[2], head[4]))
    old, new = [], []
    n += 1
    while left_old > 0 or left_new > 0:
        line = lines[n] if n < len(lines) else "end"
        if not line or line[0] == " ":  # editors strip the space of an empty line
            old.append(line[1:])
            new.append(line[1:])
        elif line[0] == "-":
            old.append(line[1:])
        elif line[0] == "+":
            new.append(line[1:])
        elif line[0] != "\\":
            raise ValueError(f"line {n + 1}: the hunk of line {first + 1} is shorter than it says")
        left_old, left_new = int(head[2] or 1) - len(old), int(head[4] or 1) - len(new)
        n += 1
    if left_old or left_new:
        raise ValueError(f"line {n}: the hunk of line {first + 1} is longer than it says")
    while n < len(lines) and lines[n].startswith("\\"):
        n += 1
    return Hunk(int(head[1]), tuple(old), tuple(new)), n


def apply(patches: Sequence[FilePatch], files: Mapping[str, str]) -> dict[str, str]:
    """The files after the patch, those that it touches. A hunk may have moved, as for git.

    Raises:
      ValueError: a file is not there, or has no such lines.
    """
    found: dict[str, str] = {}
    for one in patches:
        text = found.get(one.old or "", files.get(one.old or ""))
        if one.old is not None and text is None:
            raise ValueError(f"{one.old}: no such file among those given")
        lines, shift = (text or "").split("\n") if one.old else [], 0
        for hunk in one.hunks:
            at = _place(lines, hunk, max(hunk.start - 1, 0) + shift)
            if at is None:
                raise ValueError(f"{one.old}: no such lines as those of line {hunk.start}")
            lines[at : at + len(hunk.old)] = hunk.new
            shift += len(hunk.new) - len(hunk.old)
        if one.new is not None:
            found[one.new] = "\n".join(lines) + ("" if one.old else "\n")
    return found


def _place(lines: Sequence[str], hunk: Hunk, wanted: int) -> int | None:
    """The line nearest to the one wanted at which the old lines stand."""
    size = len(hunk.old)
    places = range(len(lines) - size + 1)
    fits = [n for n in places if tuple(lines[n : n + size]) == hunk.old]
    return min(fits, key=lambda n: abs(n - wanted), default=None)

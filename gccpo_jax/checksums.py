"""Checksums of a checkpoint's files, in a file beside them that `sha256sum -c` reads.

Orbax publishes a checkpoint by renaming its folder, so half a checkpoint is never
taken for a whole one; but a bit that flips later in the arrays is restored in silence.
"""

from __future__ import annotations

import hashlib
import pathlib

NAME = "SHA256SUMS"


def seal(directory: pathlib.Path) -> None:
    """Writes `SHA256SUMS` over the files of every folder inside `directory`.

    Files directly in it are left out: they only say when the checkpoint was made, and
    Orbax writes them last.
    """
    lines = [f"{_digest(directory / name)}  {name}\n" for name in _names(directory)]
    (directory / NAME).write_text("".join(lines), encoding="utf-8")


def damage(directory: pathlib.Path) -> str | None:
    """What differs from `SHA256SUMS`, None if nothing does.

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "state").mkdir(), (folder / "state" / "a").write_text("1")
    (None, 1)
    >>> seal(folder), damage(folder), (folder / "state" / "a").write_text("2"), damage(folder)
    (None, None, 1, "state/a differs from its checksum")
    """
    file = directory / NAME
    if not file.is_file():
        return f"{NAME} is missing"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    names = _names(directory)
    if lost := sorted(sums.keys() ^ set(names)):
        return f"{lost[0]!r} is missing, or not in {NAME}"
    changed = [name for name in names if _digest(directory / name) != sums[name]]
    return f"{changed[0]} differs from its checksum" if changed else None


def _names(directory: pathlib.Path) -> list[str]:
    files = (path for path in directory.glob("*/**/*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in files)


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

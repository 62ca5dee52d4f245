"""The directory of a run: who runs in it, and the files in it.

config.json     the configuration of the newest command, written first
lock            who runs in it; empty when nobody does
metrics.jsonl   one line per step
rollouts/       step_<n>.jsonl and the same for people, step_<n>.txt
bad/            step_<n>.json: questions whose update was not finite
checkpoints/    Orbax
tensorboard/    event files
profile/        traces of steps, see `timing.traced`
policy/         the trained policy as a Hugging Face directory, at the end
summary.json    accuracies before and after, at the end

The lock is the operating system's, so a process that was killed holds none; the file says who
holds it. Over a network it is as good as the file system's locks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

from gccpo_jax.config import Config
from gccpo_jax.errors import UserError

_FREE = ("log", "mesh")
"""Sections that a run may change when it resumes: what it shows, and where it computes."""

_SCRATCH = re.compile(r"\.(probe|policy|[^.]+\.(json|jsonl|txt))-\w+")
"""What `claim`, `write_text` and `weights.save` write before they rename it."""


def default_workdir(name: str) -> pathlib.Path:
    """`runs/<config>-<time>`."""
    return pathlib.Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


@contextlib.contextmanager
def claim(workdir: pathlib.Path, config: Config, resume: bool) -> Iterator[None]:
    """Makes `workdir` this run's and nobody else's while in it, or refuses.

    `config.json` is of the newest command, which may change `_FREE` when it resumes.

    Raises:
      UserError: it cannot be written, it holds another configuration, it holds a run
        and `resume` was not asked for, there is nothing to resume, or another process
        runs in it.
    """
    mine = json.loads(json.dumps(dataclasses.asdict(config)))
    file = workdir / "config.json"
    if resume and not file.exists():
        raise UserError(f"{workdir}: nothing to resume; leave --resume out or check --workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{workdir}: cannot be written ({error.strerror}); choose another --workdir"
        ) from error
    started = file.exists()
    others = [p for p in workdir.iterdir() if p.name != LOCK and not _SCRATCH.fullmatch(p.name)]
    if not started and others:
        raise UserError(f"{workdir}: not empty and not a run; choose another --workdir")
    theirs = json.loads(file.read_text()) if started else mine
    if changed := _differences(theirs | {name: mine[name] for name in _FREE}, mine):
        raise UserError(
            f"{workdir}: holds a run of another config ({changed}); "
            "choose another --workdir or give the same config"
        )
    with locked(workdir):
        if started and not resume:
            raise UserError(f"{workdir}: holds this run already; add --resume or choose another")
        _clear(workdir)
        if theirs != mine or not started:
            write_json(file, mine)
        yield


def _clear(workdir: pathlib.Path) -> None:
    """Removes what processes that were killed had not finished writing; never a file of others."""
    for path in [*workdir.glob(".*"), *workdir.glob("*/.*")]:
        if _SCRATCH.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _differences(old: Any, new: Any, path: str = "config") -> str:
    """The first few fields that differ, with both values."""
    found: list[str] = []

    def walk(a: Any, b: Any, path: str) -> None:
        if isinstance(a, dict) and isinstance(b, dict):
            for key in sorted({*a, *b}):
                walk(a.get(key), b.get(key), f"{path}.{key}")
        elif a != b:
            found.append(f"{path}: {a!r} there, {b!r} here")

    walk(old, new, path)
    return "; ".join(found[:3]) + ("; ..." if len(found) > 3 else "")


def write_text(file: pathlib.Path, text: str) -> None:
    """Writes a file so that it is either the old or the new one, never half of it."""
    scratch = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(file: pathlib.Path, value: Any) -> None:
    """`write_text` of a value as JSON."""
    write_text(file, json.dumps(value, indent=2, sort_keys=True) + "\n")


@contextlib.contextmanager
def writing(
    what: str, where: pathlib.Path, failures: type[Exception] | tuple = OSError
) -> Iterator[None]:
    """`with writing("metrics", file): ...` makes a disk's failure an error for the user.

    Raises:
      UserError: names what was being written, where, why it failed and what to do.
    """
    try:
        yield
    except failures as error:
        reason = getattr(error, "strerror", None) or str(error)
        if code := re.search(r"os_error_code='(\d+)'", reason):  # at the end of a page of Orbax's
            reason = os.strerror(int(code[1]))
        raise UserError(
            f"{where}: could not write {what} ({reason}); free space or bring the folder "
            "back, then add --resume"
        ) from error


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = "lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # some network file systems


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds `workdir/lock`; the lock of a process that is dead is taken over, saying so.

    Raises:
      UserError: another process holds it; names its pid and host.
    """
    with (workdir / LOCK).open("a+", encoding="utf-8") as file:
        try:
            if fcntl is None:
                raise OSError(errno.ENOTSUP, "no flock")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{workdir}: {_holder(file) or 'another process'} runs in it; wait for it, end it, "
                "or choose another --workdir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"{workdir}: no locks here, see that one run uses it", file=sys.stderr)
        else:
            if holder := _holder(file):
                print(f"{workdir}: taken over from {holder}, which is dead", file=sys.stderr)
        _write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the disk may be what ended the run
                _write(file, "")


def _holder(file: IO[str]) -> str:
    """Who wrote its name into the lock; empty if nobody did."""
    file.seek(0)
    try:
        found = json.loads(file.read())
        return f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _write(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()

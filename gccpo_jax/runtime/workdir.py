"""The directory of a run: who runs in it, and the files in it.

config.json     the configuration of the newest command, written first
lock            who runs in it; empty when nobody does
metrics.jsonl   one line per step, and one before the first
rollouts/       step_<n>.jsonl.gz and the same for people, step_<n>.txt
evaluation/     step_<n>.jsonl: the score of every held-out question, a line per split
bad/            step_<n>.json: questions whose update was not finite
checkpoints/    Orbax
tensorboard/    event files
trackers.json   what wandb, mlflow or trackio call the run, where they are told
profile/        traces of steps, see `timing.traced`
policy/         the trained policy as a Hugging Face directory, at the end
summary.json    accuracies before and after, at the end
command.txt     the command that finished it

The lock is the operating system's, on the empty file `.lock`, so a process that was killed holds
none; the file `lock` says who holds it. Over a network it is as good as the file system's locks.
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
from typing import Any

import filelock

from gccpo_jax.config import Config
from gccpo_jax.errors import UserError

_FREE = ("log", "mesh")
"""Sections that a run may change when it resumes: what it shows, and where it computes. By whom
attention is computed (`policy.attention`) is free as well: a GPU's kernel is not on other machines.
"""

COMMAND = "command.txt"
LOCK, HELD = "lock", ".lock"
"""Who runs in the directory, and the file that the operating system locks for it."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # some network file systems

_SCRATCH = re.compile(r"\.(probe|policy|[^.]+\.(json|jsonl|jsonl\.gz|txt))-\w+")
"""What `claim_workdir`, `write_text` and `weights.save` write before they rename it."""


def default_workdir(name: str) -> pathlib.Path:
    """`runs/<config>-<time>`."""
    return pathlib.Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def output_path(text: str) -> pathlib.Path:
    """The path on this machine that the user gave for what is written, `~` expanded.

    Raises:
      UserError: an address such as `gs://bucket`, a `~` of nobody's, a variable that no shell
        filled in, or nothing.
    """
    if not text.strip():
        raise UserError(f"{text!r} as a path: it is empty; is the variable set that it came from?")
    if (filled := os.path.expandvars(text)) != text:
        raise UserError(f"{text}: variables are not expanded here; give {filled}")
    if "://" in text:
        raise UserError(
            f"{text}: expected a path on this machine; mount the bucket, or copy the folder there "
            "when the run has ended"
        )
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: {error}") from None


def check_place(workdir: pathlib.Path) -> None:
    """Refuses a place in which Orbax would not find its own files, or another run's.

    Raises:
      UserError: characters that it takes for a pattern, or a `~` that nobody expanded.
    """
    place = workdir.absolute().as_posix()
    if found := sorted(set(place) & set("*?[\\")):
        raise UserError(
            f"--workdir {workdir}: {' '.join(found)} in {place} would be taken for a pattern of "
            "file names by checkpoints; choose another name"
        )
    if workdir.parts[:1] and workdir.parts[0].startswith("~"):
        raise UserError(f"{workdir}: ~ is not expanded here; give workdir.expanduser()")


@contextlib.contextmanager
def claim_workdir(workdir: pathlib.Path, config: Config, resume: bool) -> Iterator[None]:
    """Makes `workdir` this run's and nobody else's while in it, or refuses.

    `config.json` holds the configuration of the newest command, which may change what is free
    (`_FREE`) when it resumes, and have more steps where their number decides nothing else.

    Raises:
      UserError: it cannot be a run's (`check_place`) or be written, it holds another
        configuration, it holds a run and `resume` was not asked for, there is nothing to resume,
        or another process runs in it.
    """
    check_place(workdir)
    mine = json.loads(json.dumps(dataclasses.asdict(config)))
    file = workdir / "config.json"
    if resume and not os.path.exists(file):  # also where its name is too long to ask for
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
    others = {path.name for path in workdir.iterdir() if not _SCRATCH.fullmatch(path.name)}
    if not started and others - {LOCK, HELD}:
        raise UserError(f"{workdir}: not empty and not a run; choose another --workdir")
    theirs = json.loads(file.read_text()) if started else mine
    free = _extended(workdir, theirs, mine)
    if changed := differences(_with_free(theirs, mine, *free), mine):
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


def _with_free(theirs: dict[str, Any], mine: dict[str, Any], *more: str) -> dict[str, Any]:
    """`theirs` with what is free, and `more`, as in `mine`."""
    changed = theirs | {name: mine[name] for name in (*_FREE, *more)}
    attention = {"attention": mine["policy"]["attention"]}
    return changed | {"policy": theirs.get("policy", {}) | attention}


def _extended(workdir: pathlib.Path, theirs: dict[str, Any], mine: dict[str, Any]) -> list[str]:
    """["steps"] if a run may get as many as `mine` asks for.

    Raises:
      UserError: there are more, and the learning rates of the first ones would be others.
    """
    steps = theirs.get("steps", mine["steps"])
    if mine["steps"] <= steps or differences(_with_free(theirs, mine, "steps"), mine):
        return []
    decay = mine["optim"]["decay"]
    if decay != "constant":
        raise UserError(
            f"{workdir}: config.steps = {mine['steps']}, and {steps} there: with optim.decay "
            f"{decay!r} every learning rate depends on the number of steps; choose another "
            "--workdir, or start from policy.path = the policy of this run"
        )
    return ["steps"]


def _clear(workdir: pathlib.Path) -> None:
    """Removes what processes that were killed had not finished writing; never a file of others."""
    for path in [*workdir.glob(".*"), *workdir.glob("*/.*")]:
        if _SCRATCH.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def differences(old: Any, new: Any, path: str = "config") -> str:
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
    """`write_bytes` of a text."""
    write_bytes(file, text.encode())


def write_bytes(file: pathlib.Path, data: bytes) -> None:
    """Writes a file so that it is either the old or the new one, never half of it."""
    scratch = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        scratch.write_bytes(data)
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


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds `workdir`; the lock of a process that is dead is taken over, saying so.

    Raises:
      UserError: another process holds it; names its pid and host.
    """
    holder = workdir / LOCK
    lock = filelock.FileLock(workdir / HELD, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{workdir}: {_named(holder) or 'another process'} runs in it; wait for it, end it, "
            "or choose another --workdir"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"{workdir}: no locks here, see that one run uses it", file=sys.stderr)
    else:
        if dead := _named(holder):
            print(f"{workdir}: taken over from {dead}, which is dead", file=sys.stderr)
    try:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        with contextlib.suppress(OSError):  # the disk may be what ended the run
            holder.write_text("")
        lock.release()


def _named(holder: pathlib.Path) -> str:
    """The process that wrote its name into the file; empty if none did."""
    try:
        process = json.loads(holder.read_text())
        return f"process {process['pid']} on {process['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""

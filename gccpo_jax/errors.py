"""The one exception that is addressed to the user, and how a command reports it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

INTERRUPTED = "interrupted"
"""What a command says that Ctrl-C ended."""

_LONGEST = 4000  # characters of a message


class UserError(ValueError):
    """A mistake of the user's; the command line prints it in one line and exits with 2.

    The message says what is wrong (with the offending value) and what to do instead. It is one
    line whatever the value: what cannot be printed is escaped, the middle of a long one left out.

    >>> str(UserError("config.steps = 'a\\nb': expected int"))
    "config.steps = 'a\\\\nb': expected int"
    """

    def __init__(self, message: str) -> None:
        escaped = (c if c.isprintable() else ascii(c)[1:-1] for c in message)
        message = message if message.isprintable() else "".join(escaped)
        cut = len(message) > _LONGEST
        super().__init__(
            f"{message[: _LONGEST // 2]} [...] {message[-_LONGEST // 2 :]}" if cut else message
        )


@contextlib.contextmanager
def blame(path: pathlib.Path, advice: str) -> Iterator[None]:
    """`with blame(file, "copy it again"): ...` makes any error about it one for the user.

    For code that takes a file at its word, libraries' too: any error may come out of a bad one.

    Raises:
      UserError: names the file, the error and the advice; one that is raised inside is kept.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        message = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise UserError(f"{path}: truncated or damaged ({message}); {advice}") from error


def end_on_interrupt() -> None:
    """Until `raising` Ctrl-C ends the process with one line: what is under way are imports.

    Under another handler than Python's own nothing changes.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(*_: Any) -> None:
    os.write(2, f"{INTERRUPTED}\n".encode())  # `print` may be what was interrupted
    os._exit(130)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """While in it Ctrl-C raises `KeyboardInterrupt`, after `end_on_interrupt` too."""
    early = signal.getsignal(signal.SIGINT) is _end
    if early:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if early:
            signal.signal(signal.SIGINT, _end)


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Makes of a lack of memory, of the host or of a device, an error for the user.

    Raises:
      UserError: how much was asked for, where that is known, and what to do.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in reason:
            raise
        wanted = reason.partition("RESOURCE_EXHAUSTED: ")[2][:200].rstrip(".") or "of the host"
        raise UserError(
            f"no memory left ({wanted}); ask for less at a time (questions, responses, arms, "
            "their length), or end what else runs here; `python -m gccpo_jax.plan` says what a "
            "configuration needs"
        ) from error


def exit_code(action: Callable[[], object]) -> int:
    """Runs a command: 0; 2 and one line on stderr for a mistake of the user's; 130 for Ctrl-C."""
    try:
        with raising(), enough_memory():
            action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    return 0

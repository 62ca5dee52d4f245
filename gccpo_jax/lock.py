"""One run in a working directory: a lock that ends with the process that holds it.

The lock is the operating system's (`flock`), so a process that was killed holds none;
the file says who holds it. Over a network it is as good as the file system's locks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import socket
import sys
from collections.abc import Iterator
from typing import IO

from gccpo_jax.errors import UserError

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

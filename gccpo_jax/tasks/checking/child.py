"""A program that answers questions one at a time and may be lost over any of them.

For code that text of a policy's can send anywhere: into an endless loop, out of memory, into a
crash. When a deadline passes the program is killed, the question has no answer, and the next one
starts it anew. Lines of JSON cross the pipe, nothing is unpickled. It is a program of its own
rather than a `multiprocessing` worker: it loads neither JAX nor the caller's main module, and it
works from any thread.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import select
import subprocess
import sys
import threading
import time
from typing import Any

from gccpo_jax.errors import UserError

START_SECONDS = 120.0  # for its imports, on a slow machine
LONGEST_SECONDS = 1e8  # three years; clocks know no deadline that is much further away


class Child:
    """The process, started when it is first asked; `name` and `advice` are for messages."""

    def __init__(
        self, program: str, name: str, advice: str, *, setup: Any = None, quiet: bool = True
    ) -> None:
        # -P: this folder must not come first on the child's path, where `types.py`
        # would hide the standard library's.
        self.command = [sys.executable, "-P", str(pathlib.Path(__file__).with_name(program))]
        self.name, self.advice, self.setup, self.quiet = name, advice, setup, quiet
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0  # a forked copy of this process must not share the pipe
        self.lock = threading.Lock()
        atexit.register(self.stop)

    def ask(self, request: dict[str, Any], seconds: float) -> str | None:
        """The line it answers; None if none came in time, or it ended.

        The child gets the deadline too: it ends itself a second later, so one whose
        parent was killed does not run for ever.

        Raises:
          UserError: it cannot be started.
        """
        seconds = min(seconds, LONGEST_SECONDS)
        with self.lock:
            if self.process is None or self.owner != os.getpid():
                self.start()
            self.write({**request, "seconds": seconds + 1})
            reply, whole = self.read_line(seconds)
            if not whole:
                self.stop()
            return reply if whole else None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if self.quiet else None,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal reaches a whole group: it is ours alone
        )
        self.owner = os.getpid()
        if self.setup is not None:
            self.write(self.setup)
        reply, _ = self.read_line(START_SECONDS)
        if reply != "ready":
            self.stop()
            raise UserError(f"{self.name} did not start ({reply or 'no reply'}); {self.advice}")

    def write(self, value: Any) -> None:
        assert self.process is not None and self.process.stdin is not None
        left = (json.dumps(value) + "\n").encode("ascii")
        try:
            while left:  # a signal may cut a write short
                left = left[self.process.stdin.write(left) :]
        except BrokenPipeError:
            pass  # reading notices

    def read_line(self, seconds: float) -> tuple[str, bool]:
        """One line, or what came of it before the deadline or the end; whether it is whole."""
        assert self.process is not None and self.process.stdout is not None
        end, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            got = self.process.stdout.read(4096) if ready else b""
            if not got:
                break
            line += got
        return line.decode("ascii", "replace").strip(), line.endswith(b"\n")

    def stop(self) -> None:
        """Ends it; the next question starts another."""
        if self.process is not None and self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()
        self.process = None

"""Whether an answer is right: integers exactly, open mathematics by value.

`open_math` asks math-verify, which parses what a policy wrote with SymPy; that
may take forever. So it runs in one child process with a deadline: when the
deadline passes the child is killed, the answer is unscorable (None, which is
not 0), and the next call starts another child. Lines of JSON cross the pipe,
nothing is unpickled. The child is a program of its own (`verify_child.py`)
rather than a `multiprocessing` worker: it loads neither JAX nor the caller's
main module, and it works from any thread.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import re
import select
import subprocess
import sys
import threading
import time

from gccpo_jax.errors import UserError

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"([+-]?[0-9]*)\.([0-9]*)")
MAX_CHARACTERS = 2000  # of a response's end; what a final answer needs, and no more
START_SECONDS = 120.0  # importing SymPy in the child, on a slow machine


def normalise_number(text: str) -> str:
    """One spelling for every way to write the same plain number.

    Removes spaces, thousands separators, currency and percent signs, a final
    full stop, leading zeros and a zero fraction; anything else stays as it is.

    >>> [normalise_number(t) for t in ("007", "$1,200.00", "-0", ".50", " 3. ", "1/2")]
    ['7', '1200', '0', '0.5', '3', '1/2']
    """
    text = text.strip().strip("$").rstrip("%").replace("\\$", "").strip()
    bare = re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", text.rstrip(".")).replace(" ", "")
    bare = re.sub(r"^([+-]?)\$", r"\1", bare)
    if _INTEGER.fullmatch(bare):
        return str(int(bare))
    found = _DECIMAL.fullmatch(bare)
    if found is None or not (found[1] + found[2]).lstrip("+-") or len(bare) > 36:
        return text
    sign = "-" if found[1].startswith("-") else ""
    whole, fraction = found[1].lstrip("+-").lstrip("0") or "0", found[2].rstrip("0")
    number = whole + ("." + fraction if fraction else "")
    return number if number == "0" else sign + number


def exact_integer(gold: str, answer: str | None) -> float:
    """1.0 if both are the same integer in whatever spelling, else 0.0.

    >>> exact_integer("7", "007"), exact_integer("7", "7.5"), exact_integer("7", None)
    (1.0, 0.0, 0.0)
    """
    if answer is None:
        return 0.0
    number = normalise_number(answer)
    return float(_INTEGER.fullmatch(number) is not None and number == normalise_number(gold))


def open_math(gold: str, text: str, deadline_seconds: float = 5.0) -> float | None:
    """Whether a response's final answer equals `gold` as mathematics.

    Args:
        gold: LaTeX of the answer alone, for example `\\frac12`.
        text: the response; the last `MAX_CHARACTERS` characters are read, and in
            them math-verify looks for a boxed or otherwise final expression in LaTeX.
        deadline_seconds: time for this one comparison.

    Returns:
        1.0 if equal, 0.0 if not or if there is no answer that can be read, None if
        it cannot be told: time or memory ran out, or the child crashed.
    """
    with _LOCK:
        return _CHILD.ask(gold[:MAX_CHARACTERS], text[-MAX_CHARACTERS:], deadline_seconds)


class _Child:
    """The process that compares, started when it is first needed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0  # a forked copy of this process must not share the pipe

    def ask(self, gold: str, text: str, deadline_seconds: float) -> float | None:
        if self.process is None or self.owner != os.getpid():
            self.start()
        assert self.process is not None and self.process.stdin is not None
        line = json.dumps({"gold": gold, "text": text}) + "\n"
        try:
            self.process.stdin.write(line.encode("ascii"))
        except BrokenPipeError:
            pass
        reply = self.read_line(deadline_seconds)
        if reply not in ("0", "1"):
            self.stop()
        return {"0": 0.0, "1": 1.0}.get(reply)

    def start(self) -> None:
        # -P: this folder must not come first on the child's path, where `types.py`
        # would hide the standard library's.
        path = pathlib.Path(__file__).with_name("verify_child.py")
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal reaches a whole group: it is ours alone
        )
        self.owner = os.getpid()
        if (reply := self.read_line(START_SECONDS)) != "ready":
            self.stop()
            raise UserError(
                "the verifier of open mathematics did not start "
                f"({reply or 'no reply'}); install it with: pip install 'gccpo-jax[math]'"
            )

    def read_line(self, seconds: float) -> str:
        """One line of the child's, or what came of it before the deadline or its end."""
        assert self.process is not None and self.process.stdout is not None
        end, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            got = self.process.stdout.read(4096) if ready else b""
            if not got:
                break
            line += got
        return line.decode("ascii", "replace").strip()

    def stop(self) -> None:
        if self.process is not None and self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()
        self.process = None


_CHILD = _Child()
_LOCK = threading.Lock()
atexit.register(_CHILD.stop)

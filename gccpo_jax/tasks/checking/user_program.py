"""The program that runs a verifier of the user's: lines of JSON in, lines of JSON out.

The first line says where modules are found, which function it is, and how much memory it may
take. It imports nothing of the package, so it starts without JAX unless the verifier needs it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Any


def main() -> None:
    """Answers until standard input ends."""
    # The verifier may print and read: the pipes to the parent are no longer its 0 and 1.
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    setup = json.loads(requests.readline())
    sys.path[:] = setup["path"]
    os.environ["JAX_PLATFORMS"] = "cpu"  # the accelerator is the parent's
    module, _, function = setup["function"].partition(":")
    try:
        verifier = getattr(importlib.import_module(module), function)
    except Exception as error:
        say(replies, f"{type(error).__name__}: {error}")
        return
    limit_memory(setup["bytes"])
    say(replies, "ready")
    for line in requests:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # ends this process
        reply = answer(verifier, request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(replies, json.dumps(reply))


def answer(verifier: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    """{"found": a number or None}, or {"wrong": what it did instead}, or {} without memory."""
    try:
        found = verifier(request["question"], request["gold"], request["response"])
    except MemoryError:
        return {}
    except Exception as error:  # the user's own code may raise anything
        return {"wrong": f"{type(error).__name__}: {error}"}
    if found is None or (isinstance(found, (bool, int, float)) and 0 <= found <= 1):
        return {"found": None if found is None else float(found)}
    return {"wrong": f"it returned {found!r}; expected None or a number from 0 to 1"}


def limit_memory(size: int) -> None:
    """Caps what this process may write to where the system can; address space stays free."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    except (ImportError, ValueError, OSError):
        pass  # the deadline still holds


def say(replies: IO[str], line: str) -> None:
    replies.write(" ".join(line.split("\n")) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()

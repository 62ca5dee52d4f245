"""The program that runs a scorer: lines of JSON in, lines of JSON out.

The first line says where modules are found, which function it is (or, with "make", which function
makes it of which arguments), and how much memory it may take. Each other line holds the arguments
of one call. It imports nothing of the package, so it starts without JAX unless the scorer needs it.
"""

from __future__ import annotations

import decimal
import importlib
import json
import math
import numbers
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Any


def main() -> None:
    """Answers until standard input ends."""
    # The scorer may print and read: the pipes to the parent are no longer its 0 and 1.
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    setup = json.loads(requests.readline())
    sys.path[:] = setup["path"]
    os.environ["JAX_PLATFORMS"] = "cpu"  # the accelerator is the parent's
    module, _, function = setup["function"].partition(":")
    try:
        scorer = getattr(importlib.import_module(module), function)
        scorer = scorer if setup["make"] is None else scorer(*setup["make"])
    except Exception as error:
        say(replies, f"{type(error).__name__}: {error}")
        return
    limit_memory(setup["bytes"])
    say(replies, "ready")
    for line in requests:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # ends this process
        reply = answer(scorer, request["arguments"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(replies, json.dumps(reply))


def answer(scorer: Callable[..., Any], arguments: list[Any]) -> dict[str, Any]:
    """{"found": what it returned}, or {"wrong": what it did instead}, or {} without memory."""
    try:
        return {"found": plain(scorer(*arguments))}
    except MemoryError:
        return {}
    except TypeError as error:
        return {"wrong": str(error) if isinstance(error, NoNumber) else f"TypeError: {error}"}
    except Exception as error:  # the user's own code may raise anything
        return {"wrong": f"{type(error).__name__}: {error}"}


class NoNumber(TypeError):
    """What a scorer returned is neither None, a number nor a list of numbers."""


def plain(value: Any) -> Any:
    """None, a number or a list of numbers as JSON has them; NumPy's, JAX's and PyTorch's too."""
    if value is None:
        return None
    if hasattr(value, "tolist"):  # arrays and their scalars
        value = value.tolist()
    if isinstance(value, (numbers.Real, decimal.Decimal)) and not math.isnan(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    raise NoNumber(f"it returned {value!r}; expected a number")


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

"""Functions of the user's that a config names and that see a policy's text.

    verifier(question: str, gold: str, response: str) -> float in [0, 1], or None
    process(question: str, steps: list[str]) -> a float per step

A verifier (`config.reward.verifier`, "package.module:function") takes the place of the task's
own. None: the response cannot be scored; it leaves every baseline and trains nothing. It judges
rollouts, continued branches and evaluation alike; how an answer is read from a response
(`Task.extract`) stays the task's. `config.reward.process` scores steps.

Each runs in a child process (`child.Child`), without an accelerator: a response over which it
takes more than its deadline or its memory, or over which the process ends, is unscorable too,
and a warning says so. What it prints goes to standard error.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.checking.child import Child

FIELD = "config.reward.verifier"
PROCESS = "config.reward.process"
Process = Callable[[str, Sequence[str]], Any]
_log = logging.getLogger(__name__)


def with_verifier(task: Task, name: str, *, seconds: float = 60.0, gib: float = 4.0) -> Task:
    """The task with the verifier that the config names; the task itself for "".

    Args:
      name: "package.module:function". seconds: deadline of one response. gib: memory, GiB.
    Raises:
      UserError: the function cannot be loaded; later, while it is used, that it raised or
        returned neither None nor a number from 0 to 1, with the question's id.
    """
    if load_function(name, FIELD) is None:
        return task

    def verify(item: Item, response: str) -> float | None:
        where = f"{FIELD} = {name!r}, question {item.id}"
        try:
            found = ask(
                _child(name, gib, tuple(sys.path)),
                [item.question, item.answer or "", response],
                seconds,
            )
        except TimeoutError as error:
            limits = f"verifier_seconds = {seconds:g}, verifier_gib = {gib:g}"
            _log.warning("%s: unscorable, %s (%s)", where, error, limits)
            return None
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        if found is not None and not (isinstance(found, float) and 0 <= found <= 1):
            raise UserError(f"{where}: it returned {found}; expected None or a number from 0 to 1")
        return found

    return dataclasses.replace(task, verify=verify)


def load_process(name: str, *, seconds: float = 60.0, gib: float = 4.0) -> Process | None:
    """The scorer of steps that the config names, as a function of question and steps.

    None for "". Arguments as in `with_verifier`. The function raises TimeoutError where it was
    lost, and ValueError with the scorer's own error.

    Raises:
      UserError: the function cannot be loaded.
    """
    if load_function(name, PROCESS) is None:
        return None

    def score(question: str, steps: Sequence[str]) -> Any:
        return ask(_child(name, gib, tuple(sys.path), PROCESS), [question, list(steps)], seconds)

    return score


def ask(child: Child, arguments: list[Any], seconds: float) -> Any:
    """What a scorer in a child returned of arguments that fit JSON: None, a float or a list.

    Raises:
      TimeoutError: it was lost over them, and how. ValueError: it raised, with its own error in
        one line, or it returned no number.
    """
    reply = child.ask({"arguments": arguments}, seconds)
    found = json.loads(reply) if reply else {}
    if "wrong" in found:
        raise ValueError(found["wrong"])
    if not found:
        raise TimeoutError(
            "no memory was left" if reply else "it was too slow, or its process ended"
        )
    return found["found"]


@functools.cache
def _child(name: str, gib: float, path: tuple[str, ...], field: str = FIELD) -> Child:
    advice = "its module must import in a process of its own"
    return scorer_child(name, f"{field} = {name!r}", advice, gib=gib, path=path, quiet=False)


def scorer_child(
    name: str,
    where: str,
    advice: str,
    *,
    gib: float,
    path: Sequence[str],
    make: list[Any] | None = None,
    quiet: bool = True,
) -> Child:
    """A process that runs the function `name`, or the one that `name` makes of `make`."""
    setup = {
        "function": name,
        "make": make,
        "bytes": min(int(gib * 2**30), sys.maxsize),
        "path": list(path),
    }
    return Child("user_program.py", where, advice, setup=setup, quiet=quiet)


def load_function(name: str, field: str) -> Callable[..., Any] | None:
    """The function that the config's `field` names; None for "".

    Raises:
      UserError: another form, no such module or function, or it cannot be called.
    """
    if not name:
        return None
    where = f"{field} = {name!r}"
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(f"{where}: expected 'package.module:function'")
    try:
        there = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{where}: cannot import {module!r} ({error}); install it or put its directory on "
            "PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:  # its own code
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{where}: importing {module!r} raised {said}; correct it") from error
    found = getattr(there, function, None)
    if found is None:
        own = [key for key, x in vars(there).items() if inspect.isfunction(x) and key[:1] != "_"]
        has = f"its functions: {', '.join(own)}" if own else "it has no function at all"
        raise UserError(f"{where}: module {module!r} has no {function!r}; {has}")
    if not callable(found):
        raise UserError(f"{where}: expected a function, it is a {type(found).__name__}")
    return found

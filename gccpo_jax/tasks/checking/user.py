"""A function of the user's that a config names, and a verifier of that kind.

    verifier(question: str, gold: str, response: str) -> float in [0, 1], or None

A verifier (`config.reward.verifier`, "package.module:function") takes the place of the task's
own. None: the response cannot be scored; it leaves every baseline and trains nothing. It judges
rollouts, continued branches and evaluation alike; how an answer is read from a response
(`Task.extract`) stays the task's.

It runs in a child process (`child.Child`): a response over which it takes more than its
deadline or its memory, or over which the process ends, is unscorable too, and a warning says so.
What it prints goes to standard error.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.checking.child import Child

FIELD = "config.reward.verifier"
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
        request = {"question": item.question, "gold": item.answer or "", "response": response}
        reply = _child(name, gib, tuple(sys.path)).ask(request, seconds)
        found = json.loads(reply) if reply else {}
        if "wrong" in found:
            raise UserError(f"{where}: {found['wrong']}")
        if not found:
            limits = f"verifier_seconds = {seconds:g}, verifier_gib = {gib:g}"
            lost = "no memory was left" if reply else "it was too slow, or its process ended"
            _log.warning("%s: unscorable, %s (%s)", where, lost, limits)
            return None
        return found["found"]

    return dataclasses.replace(task, verify=verify)


@functools.cache
def _child(name: str, gib: float, path: tuple[str, ...]) -> Child:
    setup = {"function": name, "bytes": int(gib * 2**30), "path": path}
    where = f"{FIELD} = {name!r}"
    return Child(
        "user_program.py",
        where,
        "its module must import in a process of its own",
        setup=setup,
        quiet=False,
    )


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
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise UserError(
            f"{where}: cannot import {module!r} ({error}); install it or put its directory on "
            "PYTHONPATH"
        ) from error
    if found is None:
        raise UserError(f"{where}: module {module!r} has no {function!r}")
    if not callable(found):
        raise UserError(f"{where}: expected a function, it is a {type(found).__name__}")
    return found

"""A task of the user's: the function that `config.task.name` names, "package.module:function"."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Task
from gccpo_jax.tasks.checking.user import load_function

NEEDED = ("train", "id")
"""The splits that training asks for."""


def own_task(name: str, options: Mapping[str, Any]) -> Task:
    """The task that the function makes of `data.path`, `data.eval_path` and `task.options`.

    Args:
      name: "package.module:function". options: its arguments by name, those that were set.
    Raises:
      UserError: no such function, other arguments than it takes, an error of its own, or it
        returned no `Task` with questions to train on and held-out ones.
    """
    make, where = load_function(name, "task"), f"task {name!r}"
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        raise UserError(
            f"{where}: {error}; set data.path, data.eval_path and task.options as the function "
            f"takes them, {inspect.signature(make)}"
        ) from error
    try:
        task = make(**options)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise UserError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task):
        raise UserError(f"{where}: it returned {type(task).__name__}, expected a gccpo_jax Task")
    if missing := [split for split in NEEDED if not task.splits.get(split)]:
        raise UserError(f"{where}: its splits have no questions for {missing[0]!r}")
    return task

"""Tasks: questions, answers and rewrites. `load_task` makes one from its name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task

__all__ = ["Item", "Task", "load_task"]

FILE_TASKS = "chain, gsm8k, math"
NAMES = ("chain", "gsm8k", "math", "reasoning_gym:<data set>")


def load_task(name: str, path: str = "", eval_path: str = "", **options: Any) -> Task:
    """A task by its name.

    Args:
        name: "chain", "gsm8k", "math" or "reasoning_gym:<data set>".
        path: training questions, for the tasks that read files.
        eval_path: held-out questions, for the tasks that read files.
        **options: the task's own: the fields of `ChainConfig`, or the arguments
            of `gsm8k`, `math` or `reasoning_gym`.

    Raises:
        UserError: an unknown name or option, or a value of the wrong type.

    >>> load_task("chain", train=100, id=10, ood=10).name
    'chain'
    """
    kind, _, dataset = name.partition(":")
    if kind in ("chain", "reasoning_gym") and (path or eval_path):
        raise UserError(f"task {name!r} makes its questions itself; leave data.path empty")
    match kind, bool(dataset):
        case "chain", False:
            from gccpo_jax.tasks.chain.suite import ChainConfig, chain

            return chain(ChainConfig(**_checked(name, ChainConfig, options)))
        case "gsm8k", False:
            from gccpo_jax.tasks.gsm8k import gsm8k

            return gsm8k(path, eval_path, **_checked(name, gsm8k, options))
        case "math", False:
            from gccpo_jax.tasks.open_math import math

            return math(path, eval_path, **_checked(name, math, options))
        case "reasoning_gym", True:
            from gccpo_jax.tasks.reasoning_gym import reasoning_gym

            return reasoning_gym(dataset, **_checked(name, reasoning_gym, options))
    raise UserError(f"there is no task {name!r}; there are {', '.join(NAMES)}")


def bare_task(name: str) -> Task:
    """A task by its name, to read questions from elsewhere: it brings none of its own.

    Raises:
        UserError: an unknown name, or a task that cannot do without its questions.
    """
    match name:
        case "chain":
            from gccpo_jax.tasks.chain.suite import ChainConfig, chain

            return dataclasses.replace(chain(ChainConfig(train=1, id=1, ood=1)), splits={})
        case "gsm8k":
            from gccpo_jax.tasks.gsm8k import of_splits

            return of_splits({})
        case "math":
            from gccpo_jax.tasks.open_math import of_splits

            return of_splits({})
    raise UserError(f"there is no task {name!r} for files of questions; there are {FILE_TASKS}")


def _checked(name: str, target: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options, if `target` takes them and each is of its default's type."""
    known = inspect.signature(target).parameters
    takes_more = any(p.kind is p.VAR_KEYWORD for p in known.values())
    defaults = {key: p.default for key, p in known.items() if p.default is not p.empty}
    allowed = sorted(set(defaults) - {"path", "eval_path"})
    for key, value in options.items():
        if key not in allowed:
            if takes_more:
                continue
            raise UserError(f"task {name!r} has no option {key!r}; it has {', '.join(allowed)}")
        wanted = type(defaults[key])
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits:
            raise UserError(
                f"task {name!r}: option {key}={value!r} should be of type {wanted.__name__}"
            )
    return options

"""Shapes of arguments, checked while tracing: an axis too many is refused, not broadcast.

    @shaped(logp="T", step="T", mask="T")
    def surprise_weights(logp, step, mask, max_steps): ...

A pattern names the axes by the letters of `types.py`. One name has one size in the whole
call ("E+1" is one more than "E"); a leading "..." stands for any axes, the same ones in all
patterns that begin with it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

_Function = TypeVar("_Function", bound=Callable)


def shaped(**patterns: str) -> Callable[[_Function], _Function]:
    """The function, whose arguments must fit their patterns.

    Raises (when the function is called):
      ValueError: as `check`.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            check(**{name: (given.get(name), pattern) for name, pattern in patterns.items()})
            return function(*args, **kwargs)

        return checked

    return decorate


def fields(name: str, record: Any, **patterns: str) -> dict[str, tuple[Any, str]]:
    """Arguments of `check` for fields of a record, shown as `name.field`."""
    return {f"{name}.{each}": (getattr(record, each), x) for each, x in patterns.items()}


def check(**arguments: tuple[Any, str]) -> None:
    """Compares the shape of each argument with its pattern, from left to right; None fits any.

    Raises:
      ValueError: names the argument, its shape and its pattern, and the same of the argument
        that it does not fit (of two others if it has too many axes or too few).
    """
    arguments = {name: given for name, given in arguments.items() if given[0] is not None}
    sizes: dict[str, tuple[Any, str]] = {}  # of each axis, and the argument that said so
    for name, (array, pattern) in arguments.items():
        shape, axes = np.shape(array), pattern.split()
        found: list[tuple[str, Any]] = []
        if axes[:1] == ["..."]:
            axes = axes[1:]
            leading = max(len(shape) - len(axes), 0)
            found, shape = [("...", shape[:leading])], shape[leading:]
        if len(shape) != len(axes):
            _refuse(arguments, name, [other for other in arguments if other != name][:2])
        for axis, size in [*found, *zip(axes, shape, strict=True)]:
            if axis.endswith("+1"):
                axis, size = axis.removesuffix("+1"), size - 1
            known, other = sizes.setdefault(axis, (size, name))
            if known != size:
                _refuse(arguments, name, [other])


def _refuse(arguments: dict[str, tuple[Any, str]], name: str, others: list[str]) -> None:
    said = [
        f"{each} has shape {np.shape(arguments[each][0])}, expected "
        f"[{', '.join(arguments[each][1].split())}]"
        for each in (name, *others)
    ]
    raise ValueError("; ".join(said))

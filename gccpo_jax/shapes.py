"""Shapes of arguments, checked while tracing: an axis too many is refused, not broadcast.

    check(factual=(factual, "E A"), perturbed=(perturbed, "E P A"), usable=(usable, "E P"))

A pattern names the axes by the letters of `types.py`. One name has one size in the whole
call ("E+1" is one more than "E"); a leading "..." stands for any axes, the same ones in all
patterns that begin with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def check(**arguments: tuple[Any, str]) -> None:
    """Compares the shape of each argument with its pattern, from left to right.

    Raises:
      ValueError: names the argument, its shape and its pattern, and the same of the argument
        that it does not fit (of all others if it has too many axes or too few).
    """
    sizes: dict[str, tuple[Any, str]] = {}  # of each axis, and the argument that said so
    for name, (array, pattern) in arguments.items():
        shape, axes = np.shape(array), pattern.split()
        found: list[tuple[str, Any]] = []
        if axes[:1] == ["..."]:
            axes = axes[1:]
            leading = max(len(shape) - len(axes), 0)
            found, shape = [("...", shape[:leading])], shape[leading:]
        if len(shape) != len(axes):
            _refuse(arguments, name, [other for other in arguments if other != name])
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

"""Functions of the user's that a config names: "package.module:function"."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from gccpo_jax.errors import UserError


def load_function(name: str, field: str) -> Callable[..., Any] | None:
    """The function that the config's `field` names; None for "".

    Raises:
      UserError: another form, no such module or function, or it cannot be called.
    """
    if not name:
        return None
    told = f"{field} = {name!r}"
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(f"{told}: expected 'package.module:function'")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise UserError(
            f"{told}: cannot import {module!r} ({error}); install it or put its directory on "
            "PYTHONPATH"
        ) from error
    if found is None:
        raise UserError(f"{told}: module {module!r} has no {function!r}")
    if not callable(found):
        raise UserError(f"{told}: expected a function, it is a {type(found).__name__}")
    return found

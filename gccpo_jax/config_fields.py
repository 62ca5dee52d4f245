"""Fields of the configuration: a default, what is valid, and which kinds read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


def field(default: Any, valid: Callable[[Any], bool], expected: str) -> Any:
    """A field with a check and the words of its error message."""
    return dataclasses.field(default=default, metadata={"valid": valid, "expected": expected})


def least(low: float, default: Any) -> Any:
    return field(default, lambda x: x >= low, f"at least {low}")


def above(low: float, default: Any) -> Any:
    return field(default, lambda x: x > low, f"a number above {low}")


def fraction(default: float) -> Any:
    return field(default, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def choice(*valid: str) -> Any:
    """One of `valid`; the first is the default."""
    return field(valid[0], lambda x: x in valid, "one of " + ", ".join(map(repr, valid)))


def only(kinds: str, default: Any) -> Any:
    """A field (or plain default) that some values of its section's `kind` read; others refuse."""
    if not isinstance(default, dataclasses.Field):
        default = dataclasses.field(default=default)
    return dataclasses.field(
        default=default.default, metadata={**default.metadata, "kinds": tuple(kinds.split())}
    )


def section(cls: type) -> Any:
    """A nested dataclass at its defaults."""
    return dataclasses.field(default_factory=cls)

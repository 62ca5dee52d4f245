"""Fields of the configuration: a default, what is valid, when it is read; and building them.

`build` goes from nested dicts to frozen dataclasses and refuses what does not fit.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import typing
from collections.abc import Callable
from typing import Any

from gccpo_jax.errors import UserError


def unknown(section: str, name: str, hints: dict[str, Any]) -> UserError:
    """The error about a field that a section does not have; names those it has."""
    valid = f"{section} has {', '.join(hints)}" if hints else f"{section} has no fields"
    return UserError(f"{section}.{name}: no such field; {valid}")


def build(cls: type, mapping: dict, path: str) -> Any:
    """A dataclass from a nested dict; metadata `valid` and `expected` check its fields.

    Raises:
      UserError: an unknown field, a wrong type or a value out of range, with its path.
    """
    hints = typing.get_type_hints(cls)
    extra = sorted(set(mapping) - set(hints), key=str)
    if extra:
        raise unknown(path, extra[0], hints)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    return cls(
        **{
            name: _value(hints[name], fields[name], value, f"{path}.{name}")
            for name, value in mapping.items()
        }
    )


def _value(kind: type, field: dataclasses.Field, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{path} = {_shown(value)}: expected a section with fields")
        return build(kind, value, path)
    if kind is float and type(value) is int and abs(value) < 2**63:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"{path} = {_shown(value)}: expected {kind.__name__}")
    if kind in (int, float) and not abs(value) < (2**63 if kind is int else math.inf):
        expected = "less than 2**63" if kind is int else "a finite number"
        raise UserError(f"{path} = {_shown(value)}: expected {expected}")
    if not field.metadata.get("valid", lambda _: True)(value):
        raise UserError(f"{path} = {_shown(value)}: expected {field.metadata['expected']}")
    return value


def field_type(cls: Any, path: str) -> type:
    """Type of the field of `cls` at a dotted path such as "optim.lr".

    Raises:
      UserError: there is no such field (names those of its section), or it is a section.
    """
    parts = path.split(".")
    for depth, name in enumerate(parts):
        hints = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
        if name not in hints:
            raise unknown(".".join(["config", *parts[:depth]]), name, hints)
        cls = hints[name]
    if dataclasses.is_dataclass(cls) or cls is dict:
        raise UserError(f"config.{path}: a section; set one of its fields, config.{path}.<field>")
    return cls


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a very large {type(value).__name__}"


def field(default: Any, valid: Callable[[Any], bool], expected: str) -> Any:
    """A field with a check and the words of its error message."""
    return dataclasses.field(default=default, metadata={"valid": valid, "expected": expected})


def least(low: float, default: Any) -> Any:
    return field(default, lambda x: x >= low, f"at least {low}")


def above(low: float, default: Any) -> Any:
    return field(default, lambda x: x > low, f"a number above {low}")


def fraction(default: float) -> Any:
    return field(default, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def moment(default: float) -> Any:
    """The decay of a moving average that starts at 0 and is divided by 1 - decay^n."""
    valid = "from 0 to 1 - 2**-24: float32 rounds what is above to 1, and 1 - 1 divides by 0"
    return field(default, lambda x: 0 <= x <= 1 - 2**-24, valid)


def is_day(text: str) -> bool:
    """Whether a text is a day as YYYY-MM-DD."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def choice(*valid: str) -> Any:
    """One of `valid`; the first is the default."""
    made = field(valid[0], lambda x: x in valid, "one of " + ", ".join(map(repr, valid)))
    return dataclasses.field(default=valid[0], metadata={**made.metadata, "choices": valid})


def arms(family: str, default: int) -> Any:
    """How many arms of an intervention are read; `family` says what for (reward/arms.py)."""
    count = only_if("credit.of_steps", least(0, default))
    return dataclasses.field(default=default, metadata={**count.metadata, "family": family})


def only_if(other: str, default: Any, *values: Any) -> Any:
    """A field or section that is read under some values of another field only.

    Args:
      other: path of that field in the config, such as "reward.verifier", or of a property that
        says it of several (a row of `unread.NEEDS`).
      default: the default, a field or a section; may have a condition already: both must hold.
      values: of `other`; without any, every one but "", 0 and False.
    """
    if not isinstance(default, dataclasses.Field):
        default = dataclasses.field(default=default)
    conditions = (*default.metadata.get("only_if", ()), (other, values))
    return dataclasses.field(
        default=default.default,
        default_factory=default.default_factory,
        metadata={**default.metadata, "only_if": conditions},
    )


def section(cls: type) -> Any:
    """A nested dataclass at its defaults."""
    return dataclasses.field(default_factory=cls)

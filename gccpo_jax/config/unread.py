"""Fields that were changed although another field's value keeps them from being read."""

from __future__ import annotations

import dataclasses
import operator
from typing import TYPE_CHECKING

from gccpo_jax.errors import UserError

if TYPE_CHECKING:
    from gccpo_jax.config.sections import Config


def check_unread(c: Config, section: object, path: str, conditions: tuple = ()) -> None:
    """Refuses a field that was changed although another field's value keeps it from being read.

    Walks a section and those inside it; the conditions of a section (`fields.only_if`) hold for
    all of its fields.

    Raises:
      UserError: names the field, its value, the other field and its value.
    """
    untouched = type(section)()
    for field in dataclasses.fields(section):
        place = f"{path}.{field.name}"
        value, start = getattr(section, field.name), getattr(untouched, field.name)
        needs = (*conditions, *field.metadata.get("only_if", ()))
        if dataclasses.is_dataclass(value):
            check_unread(c, value, place, needs)
        elif value != start:
            for other, values in needs:
                chosen = operator.attrgetter(other)(c)
                if chosen not in values if values else not chosen:
                    raise UserError(
                        f"{place} = {value!r}: {_unread(other, chosen, values)} "
                        f"leave it at {start!r}"
                    )


def _unread(other: str, chosen: object, values: tuple) -> str:
    """That a field is not read, in words."""
    if values:
        return f"config.{other} {chosen!r} does not use it, only {', '.join(map(repr, values))};"
    return f"nothing uses it while config.{other} is {chosen!r}; set that, or"


def check_ignored(section: object, path: str, key: str) -> None:
    """Refuses a field that was changed although the section's choice `key` does not read it.

    Raises:
      UserError: names the field, its value and the choices that read it.
    """
    for field in dataclasses.fields(section):
        kinds, value = field.metadata.get("kinds"), getattr(section, field.name)
        chosen = getattr(section, key)
        if kinds and chosen not in kinds and value != field.default:
            raise UserError(
                f"{path}.{field.name} = {value!r}: {path}.{key} {chosen!r} does not use it, "
                f"only {', '.join(map(repr, kinds))}; leave it at {field.default!r}"
            )

"""Fields that were changed although another field's value keeps them from being read."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gccpo_jax.errors import UserError

if TYPE_CHECKING:
    from gccpo_jax.config.sections import Config

NEEDS = {
    "credit.of_steps": "a credit.kind that reads steps",
    "reads_steps": "a credit.kind that reads steps or a counterfactual.transport",
    "cuts_steps": "a credit.kind that reads steps, a counterfactual.transport or a reward.process",
    "counts_draws": "branches (counterfactual.value 'continued') or weights by draws "
    "(credit.pooled, shrink)",
    "reads_laws": "answer laws: arms, counterfactual.value 'scored' or a credit that is made of "
    "them, with a credit.kind that reads steps",
    "divides_by_deviation": "credit.baseline 'zscore'",
    "adds_epsilon": "credit.baseline 'zscore' or 'pass_at_k'",
}
"""What a condition that is a property of the config asks for, in words."""


class Unread(NamedTuple):
    """A field that was changed and that nothing reads."""

    path: str  # without "config."
    value: object
    start: object  # its default
    why: str


def check_unread(c: Config) -> None:
    """Refuses a field that was changed although another field's value keeps it from being read.

    Raises:
      UserError: names the field, its value, the other field and its value.
    """
    for path, value, start, why in unread(c):
        raise UserError(f"config.{path} = {value!r}: {why} leave it at {start!r}")


def unread(
    c: Config, section: object = None, path: str = "", needs: tuple = ()
) -> Iterator[Unread]:
    """Every field that was changed and that nothing reads, section by section.

    The conditions of a section (`fields.only_if`) hold for all of its fields: `path` and `needs`
    are those of `section`, by default the whole config.
    """
    section = c if section is None else section
    untouched = type(section)()
    for field in dataclasses.fields(section):
        value, start = getattr(section, field.name), getattr(untouched, field.name)
        conditions = (*field.metadata.get("only_if", ()), *needs)
        if dataclasses.is_dataclass(value):
            yield from unread(c, value, f"{path}{field.name}.", conditions)
        elif value != start:
            whys = (_why(c, other, values) for other, values in conditions)
            if why := next(filter(None, whys), ""):
                yield Unread(path + field.name, value, start, why)


def _why(c: Config, other: str, values: tuple) -> str:
    """That a field is not read, in words; "" where the condition holds."""
    chosen = operator.attrgetter(other)(c)
    if chosen in values if values else chosen:
        return ""
    if other in NEEDS:
        return f"nothing uses it without {NEEDS[other]};"
    if values:
        return f"config.{other} {chosen!r} does not use it, only {', '.join(map(repr, values))};"
    return f"nothing uses it while config.{other} is {chosen!r}; set that, or"

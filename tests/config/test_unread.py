"""A field that another field's value keeps from being read is refused, wherever it is."""

import dataclasses
import operator

import pytest

from gccpo_jax.config import Config, default, freeze
from gccpo_jax.errors import UserError


def conditional(section, path="", conditions=()):
    """(path, default, its conditions) of every field that has some, those inside sections too."""
    for field in dataclasses.fields(section):
        value, place = getattr(section, field.name), f"{path}{field.name}"
        found = (*conditions, *field.metadata.get("only_if", ()))
        if dataclasses.is_dataclass(value):
            yield from conditional(value, f"{place}.", found)
        elif found:
            yield place, value, found


CONDITIONAL = {place: rest for place, *rest in conditional(Config())}
SET = {  # conditions that are values of no list
    "reward.verifier": "module:function",
    "reward.process": "module:function",
    "log.rollouts_every": 5,
    "objective.beta": 0.5,
    "eval.every": 5,
}
WITH = {"reward.keep": {"reward.process": "module:function", "credit.kind": "outcome"}}
CHANGED = {str: "other", int: 2, float: 0.75}


def config_of(changes):
    config = default()
    with config.unlocked():
        for path, value in changes.items():
            *sections, name = path.split(".")
            operator.attrgetter(".".join(sections))(config)[name] = value
    return config


def test_every_room_has_some():
    names = "policy.path policy.scratch.layers reward.verifier_gib reward.process_seconds"
    assert {*names.split(), "log.rollouts", "checkpoint.keep_best"} <= set(CONDITIONAL)


@pytest.mark.parametrize("path", CONDITIONAL)
def test_it_is_read_where_the_others_say_so_and_refused_elsewhere(path):
    start, conditions = CONDITIONAL[path]
    value = 3 if start == 2 else CHANGED[type(start)]
    need = {other: values[0] if values else SET[other] for other, values in conditions}
    freeze(config_of(WITH.get(path, {}) | need | {path: value}))
    for other, values in conditions:
        unmet = {"log.rollouts_every": 0, "objective.beta": 0.0}
        without = {"load": "scratch", "scratch": "load", "curate": "advantage"}
        without |= {"advantage": "curate"}
        wrong = without[values[0]] if values else unmet.get(other, type(SET[other])())
        with pytest.raises(UserError, match=f"config.{path} = .*config.{other} "):
            freeze(config_of(need | {other: wrong, path: value}))

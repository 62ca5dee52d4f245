"""The credit section: what each kind needs, and options that a kind would ignore."""

import dataclasses
import pathlib
import runpy

import pytest

from gccpo_jax.config import CreditConfig, default, freeze
from gccpo_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
KINDS = ["gated_gae", "additive", "selective", "four_corner", "paper", "outcome"]
NEEDS = {
    "selective": {"counterfactual.corrupt_arms": 1},
    "four_corner": {"counterfactual.swap_arms": 1},
    "paper": {"counterfactual.surface_arms": 0},
}
CHANGED = {bool: False, float: 0.125, int: 0}


def config_of(kind, **changes):
    """The default config of a kind with what it needs, and dotted changes."""
    config = default()
    config.credit.kind = kind
    with config.unlocked():
        for path, value in (NEEDS.get(kind, {}) | changes).items():
            section, name = path.split(".")
            config[section][name] = value
    return config


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_with_what_it_needs(kind):
    assert freeze(config_of(kind)).credit.kind == kind


@pytest.mark.parametrize("field", [f for f in dataclasses.fields(CreditConfig) if f.name != "kind"])
def test_an_option_is_read_by_the_kinds_that_say_so_and_refused_by_the_others(field):
    value = CHANGED.get(type(field.default), None)
    if value is None:
        value = {"token_weights": "surprise", "baseline": "zscore"}[field.name]
    for kind in KINDS:
        config = config_of(kind, **{f"credit.{field.name}": value})
        if kind in field.metadata["kinds"]:
            assert getattr(freeze(config).credit, field.name) == value
        else:
            with pytest.raises(
                UserError, match=f"credit.{field.name} = .*{kind}.* does not use it"
            ):
                freeze(config)


@pytest.mark.parametrize(
    "kind, change, words",
    [
        ("selective", {"counterfactual.corrupt_arms": 0}, "ask for content arms"),
        ("four_corner", {"counterfactual.swap_arms": 0}, "ask for content arms"),
        ("selective", {"counterfactual.latent_arms": 0, "counterfactual.surface_arms": 0}, "no R"),
        (
            "four_corner",
            {"counterfactual.latent_arms": 0, "counterfactual.surface_arms": 0},
            "no R",
        ),
        ("additive", {"counterfactual.latent_arms": 0, "counterfactual.surface_arms": 0}, "gate"),
        ("additive", {"counterfactual.boundaries": 0}, "at least 1"),
        ("paper", {"counterfactual.surface_arms": 1}, "surface_arms 0"),
        ("paper", {"counterfactual.latent_arms": 0}, "latent_arms at least 1"),
        ("paper", {"credit.paper_truncation": 0.5}, "a number in"),
        ("paper", {"credit.paper_floor": 0.0}, "above 0"),
    ],
)
def test_a_kind_without_its_readings_is_refused(kind, change, words):
    with pytest.raises(UserError, match=words):
        freeze(config_of(kind, **change))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem)
def test_shipped_configs_freeze(path):
    freeze(runpy.run_path(str(path))["get_config"]())

"""The credit section: what each kind needs, and options that a kind would ignore."""

import dataclasses
import runpy

import pytest

from gccpo_jax.config import CreditConfig, default, freeze
from gccpo_jax.errors import UserError
from tests.helpers.paths import ROOT

KINDS = "gated_gae additive selective four_corner paper l2t outcome gtpo grpo_s".split()
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
    named = {
        "token_weights": "surprise", "baseline": "zscore", "pass_k": 2, "control": "inverted",
        "step_term": "non_causal", "gate_by": "equivariance", "pooled": True,
    }  # fmt: skip
    value = named.get(field.name, CHANGED.get(type(field.default)))
    for kind in KINDS:
        config = config_of(kind, **{f"credit.{field.name}": value})
        if field.name == "gate_by":
            config.counterfactual.equivariance_arms = 1
        if field.name == "kappa" and kind in field.metadata["kinds"]:
            config.counterfactual.transport = "surface"
            config.counterfactual.boundaries = 2 if kind == "gated_gae" else 0
        if field.name == "pooled" and kind in field.metadata["kinds"]:
            config.credit.gate = False
        if field.name == "pass_k" and kind in field.metadata["kinds"]:
            config.credit.baseline = "pass_at_k"
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
        ("paper", {"counterfactual.surface_arms": 1}, "no other nuisance"),
        ("paper", {"counterfactual.latent_arms": 0}, "latent_arms at least 1"),
        ("paper", {"credit.paper_truncation": 0.5}, "a number in"),
        ("paper", {"credit.paper_floor": 0.0}, "above 0"),
        ("gated_gae", {"credit.step_term": "selectivity"}, "no S for Q"),
        (
            "gated_gae",
            {
                "credit.step_term": "robustness",
                "counterfactual.latent_arms": 0,
                "counterfactual.surface_arms": 0,
            },
            "step_term 'robustness': there is no R",
        ),
        ("gated_gae", {"credit.step_term": "effect_size", "credit.gate": False}, "has no gate"),
        ("gated_gae", {"credit.gate_by": "equivariance"}, "equivariance_arms at least 1"),
        (
            "gated_gae",
            {
                "credit.gate_by": "equivariance",
                "credit.gate": False,
                "counterfactual.equivariance_arms": 1,
            },
            "credit.gate True",
        ),
        (
            "gated_gae",
            {"counterfactual.value": "scored", "counterfactual.shared_noise": False},
            "has no branches",
        ),
        (
            "outcome",
            {"reward.process_use": "curate", "reward.keep": 2},
            "a reward.process",
        ),
        (
            "gated_gae",
            {"reward.process": "a:b", "reward.process_use": "curate", "reward.keep": 2},
            "credit.kind 'outcome'",
        ),
        (
            "outcome",
            {"reward.process": "a:b", "reward.process_use": "curate", "reward.keep": 8},
            "less than group_size = 8",
        ),
        ("outcome", {"reward.keep": 2}, "process_use 'advantage' does not use it, only 'curate'"),
        ("outcome", {"reward.process": "a:b", "objective.loss": "gvpo"}, "reads rewards"),
    ],
)
def test_a_kind_without_its_readings_is_refused(kind, change, words):
    with pytest.raises(UserError, match=words):
        freeze(config_of(kind, **change))


@pytest.mark.parametrize(
    "kind, change, words",
    [
        ("outcome", {"credit.baseline": "pass_at_k", "credit.pass_k": 9}, "group_size = 8"),
        ("outcome", {"credit.pass_k": 2}, "only baseline 'pass_at_k' uses it"),
        ("outcome", {"credit.baseline": "zscore", "credit.ddof": 8}, "no deviation is left"),
        ("outcome", {"reward.overlong": 65}, "at most sampling.max_tokens = 64"),
        ("outcome", {"reward.length_penalty": 1.0}, "a number in"),
        ("gated_gae", {"reward.overlong": 8}, "'gated_gae' does not use it, only 'outcome'"),
        ("gtpo", {"reward.length_penalty": 0.1}, "'gtpo' does not use it, only 'outcome'"),
        ("outcome", {"credit.baseline": "pass_at_k", "reward.overlong": 8}, "right and wrong only"),
        ("paper", {"reward.process": "a:b"}, "'paper' does not use it, only 'outcome' and"),
        (
            "outcome",
            {"reward.process_weight": 0.5},
            "while config.reward.process is ''",
        ),
        ("outcome", {"sampling.dynamic": -1}, "at least 0"),
        ("gtpo", {"credit.entropy_floor": 0.0}, "above 0"),
    ],
)
def test_outcome_options_that_cannot_be_are_refused(kind, change, words):
    with pytest.raises(UserError, match=words):
        freeze(config_of(kind, **change))


def test_a_group_of_one_is_refused():
    config = config_of("outcome")
    config.group_size = 1
    with pytest.raises(UserError, match="group_size = 1: expected at least 2"):
        freeze(config)


RUNS = [path for path in sorted((ROOT / "configs").glob("*.py")) if path.stem != "study"]  # a plan


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_shipped_configs_freeze(path):
    freeze(runpy.run_path(str(path))["get_config"]())

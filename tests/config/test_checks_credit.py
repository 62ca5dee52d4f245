"""The credit section: what each kind needs; `test_unread.py` has what it does not read."""

import runpy

import pytest

from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError
from tests.helpers.paths import ROOT

KINDS = "gated_gae additive selective four_corner paper l2t outcome gtpo grpo_s".split()
NEEDS = {
    "selective": {"counterfactual.corrupt_arms": 1},
    "four_corner": {"counterfactual.swap_arms": 1},
    "paper": {"counterfactual.surface_arms": 0},
}


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
        ("gated_gae", {"credit.gate_by": "equivariance"}, "equivariance_arms at least 1"),
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
        ("outcome", {"credit.baseline": "zscore", "credit.ddof": 8}, "no deviation is left"),
        ("outcome", {"reward.overlong": 65}, "at most sampling.max_tokens = 64"),
        ("outcome", {"reward.length_penalty": 1.0}, "a number in"),
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

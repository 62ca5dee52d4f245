"""The objective section: what each loss needs; `test_unread.py` has what it does not read."""

import dataclasses

import pytest

from gccpo_jax.config import ObjectiveConfig, default, freeze
from gccpo_jax.config.sections import RATIO_LOSSES, REDUCTIONS
from gccpo_jax.errors import UserError
from gccpo_jax.objective.kl import ESTIMATORS
from gccpo_jax.objective.losses import LOSSES
from gccpo_jax.objective.reductions import REDUCTIONS as KNOWN

ALL = [*LOSSES, "gvpo"]
NEEDS = {
    "gspo": {"objective.reduction": "seq_mean_token_mean", "credit.kind": "outcome"},
    "gspo_token": {"objective.reduction": "seq_mean_token_mean"},
    "gvpo": {"objective.beta": 0.0, "credit.kind": "outcome"},
}


def config_of(loss, **changes):
    """The default config of a loss with what it needs, and dotted changes."""
    config = default()
    config.objective.loss = loss
    with config.unlocked():
        for path, value in (NEEDS.get(loss, {}) | changes).items():
            section, name = path.split(".")
            config[section][name] = value
    return config


def test_the_config_offers_what_there_is():
    kl = next(f for f in dataclasses.fields(ObjectiveConfig) if f.name == "kl")
    assert tuple(RATIO_LOSSES.split()) == tuple(LOSSES) and REDUCTIONS == KNOWN
    assert kl.metadata["expected"] == "one of " + ", ".join(map(repr, ESTIMATORS))


@pytest.mark.parametrize("loss", ALL)
def test_every_loss_runs_with_what_it_needs(loss):
    assert freeze(config_of(loss)).objective.loss == loss


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_loss_with_every_reduction_works_or_says_why_not(loss, reduction):
    config = config_of(loss, **{"objective.reduction": reduction})
    one_ratio = loss in ("gspo", "gspo_token") and reduction != "seq_mean_token_mean"
    if one_ratio or (loss == "gvpo" and reduction != "token_mean"):
        words = "expected 'seq_mean_token_mean'" if one_ratio else "'gvpo' does not use it"
        with pytest.raises(UserError, match=f"objective.reduction = .*{words}"):
            freeze(config)
    else:
        assert freeze(config).objective.reduction == reduction


@pytest.mark.parametrize(
    "loss, change, words",
    [
        ("gspo", {"credit.kind": "gated_gae"}, "expected 'gspo_token', or credit.kind 'outcome'"),
        ("gvpo", {"credit.kind": "gated_gae"}, "reads rewards"),
        ("gvpo", {"credit.baseline": "zscore"}, "credit.baseline = .*'gvpo' does not use it"),
        ("gvpo", {"objective.beta": 0.01}, "set beta to 0"),
        ("ppo", {"objective.dual_clip": 0.5}, "0 .off. or a number above 1"),
        ("ppo", {"objective.dual_clip": 1.1}, "above 1 . clip_high = 1.2"),
        ("cispo", {"objective.ratio_cap": 0.28}, "a number above 1"),
        ("grpo", {}, "one of 'ppo', 'gspo'"),
    ],
)
def test_what_does_not_go_together_is_refused(loss, change, words):
    with pytest.raises(UserError, match=words):
        freeze(config_of(loss, **change))

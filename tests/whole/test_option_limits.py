"""Every option at its least and greatest value: checked here, trained for a few of them."""

import sys

import pytest

from gccpo_jax.errors import UserError
from tests.helpers.paths import SCRIPTS

sys.path.append(str(SCRIPTS))
import option_limits

REFUSED = (
    "counterfactual.value = 'learned'",  # without a scorer
    f"counterfactual.learned_share = {2.0**-126!r}",
    "counterfactual.learned_share = 1.0",
    "counterfactual.boundaries = 0",  # credit of steps needs one
    f"mesh.data = {option_limits.HUGE}",
    f"mesh.fsdp = {option_limits.HUGE}",
)


def test_every_option_is_tried_or_left_out_for_a_reason():
    tried = {path for path, _, _ in option_limits.options()}
    assert not tried & set(option_limits.LEFT_OUT) and len(tried) > 110
    trials = option_limits.trials()
    assert {trial.path for trial in trials} == tried
    some = [trial for trial in trials if trial.path.startswith(("optim.", "eval.", "mesh.tensor"))]
    packed = option_limits.groups(some, 12)
    assert sorted(t.name for group in packed for t in group) == sorted(t.name for t in some)
    assert len(packed) < len(some) / 2


def test_every_value_makes_a_config_with_what_it_needs(tmp_path):
    """So it is read; what cannot be is refused in one line."""
    for trial in option_limits.trials():
        if trial.name in REFUSED:
            with pytest.raises(
                UserError, match=trial.path.replace(".", r"\.") + "|batch_size|scorer"
            ):
                option_limits.config_of(tmp_path, trial.changes)
        else:
            option_limits.config_of(tmp_path, trial.changes)


@pytest.mark.slow
def test_extreme_values_train_or_are_refused(tmp_path):
    model = option_limits.tiny_model(tmp_path / "model")
    trials = {trial.name: trial for trial in option_limits.trials()}
    chosen = ["optim.weight_decay = 1e+30", "optim.lr = 1e+30"]
    for name in chosen:
        said = option_limits.outcome(model, trials[name].changes, tmp_path)
        assert said.startswith("runs"), (name, said)


def test_a_run_that_goes_wrong_is_said_to(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("a\nb")

    monkeypatch.setattr(option_limits.train, "train_and_evaluate", broken)
    assert option_limits.outcome(tmp_path, {}, tmp_path) == "WRONG: ValueError: a b"

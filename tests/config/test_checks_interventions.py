"""Values in other words, groups over wordings, do-updates: what is refused, in one line."""

import pytest

from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError

MOVED = {"counterfactual.transport": "surface", "credit.gate": False}


def config_of(changes):
    config = default()
    for path, value in changes.items():
        section, _, name = path.rpartition(".")
        config[section][name] = value
    return config


@pytest.mark.parametrize(
    "changes",
    [
        MOVED,
        MOVED | {"optim.do_share": 0.5, "credit.kappa": 0.5},
        {"counterfactual.transport": "both", "credit.gate_by": "step"},
        {"credit.gate": False, "credit.pooled": True, "credit.shrink": 0.5},
        {"sampling.surface_groups": 4},
        {"optim.train_branches": True},
        {"credit.kind": "outcome", "counterfactual.transport": "number",
         "counterfactual.boundaries": 0},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_asked_for_can_be_had(changes):
    freeze(config_of(changes))


@pytest.mark.parametrize(
    "changes, words",
    [
        (MOVED | {"counterfactual.value": "scored"}, "its values are continued branches"),
        (
            {"counterfactual.transport": "surface", "credit.kind": "outcome"},
            "boundaries = 2: .* set it to 0",
        ),
        ({"credit.gate_by": "step"}, "and a transport"),
        ({"credit.pooled": True}, "expected credit.gate False"),
        (MOVED | {"optim.train_branches": True}, "no branches of the question as asked"),
        ({"optim.train_branches": True, "credit.kind": "outcome"}, "a credit.kind of steps"),
        ({"optim.train_branches": True, "counterfactual.draws": 1}, "expected at least 2"),
        (
            {"credit.pooled": True, "credit.gate": False, "credit.control": "permuted"},
            "no control of their order",
        ),
        ({"sampling.surface_groups": 3}, "a divisor of group_size = 8"),
        ({"sampling.surface_groups": 2, "sampling.dynamic": 2}, "know no wordings"),
        ({"sampling.surface_groups": 2, "credit.kind": "outcome", "objective.loss": "gvpo",
          "objective.beta": 0.0}, "one prompt's group"),
        ({"counterfactual.boundary_share": 0.0}, "a number in"),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(changes, words):
    with pytest.raises(UserError, match=words) as error:
        freeze(config_of(changes))
    assert "\n" not in str(error.value)

"""The arithmetic of the method's cost table, written out, and the budgets of configurations."""

import dataclasses

import pytest

from gccpo_jax import cost
from gccpo_jax.config import CounterfactualConfig, CreditConfig, default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.runtime import cli
from gccpo_jax.training.planning.tokens import (
    Sizes,
    at_the_limits,
    budget,
    chain,
    continued,
    contrast,
    flops,
    latent,
    policy_shape,
    replaced,
    surface,
    written,
)
from tests.helpers.paths import ROOT

# T = 256 tokens in K = 8 steps of 32; 6 answers of 8 tokens; a question of 64. The branches start
# after 32, 64, ..., 256 tokens, so that 224, 192, ..., 0 are left: 112 on average.
SIZES = Sizes(steps=8, tokens=256, prompt=64, branch=112, candidates=6, answer=8)
LEFT = (224 + 192 + 160 + 128 + 96 + 64 + 32 + 0) / 8


@pytest.mark.parametrize(
    "tokens, by_hand, multiple",
    [
        (chain(SIZES), 9 * 6 * 8, 1.7),
        (latent(SIZES, 4), 8 * 4 * 48, 6),
        (replaced(SIZES, 4), 8 * 4 * (32 + 48), 10),
        (surface(SIZES, 2), 2 * (64 + 256) + 8 * 2 * 48, 5.5),
        (surface(SIZES, 2, read=1), 2 * (64 + 256) + 1 * 2 * 48, 2.9),
        (continued(SIZES, 8, 4), 8 * 4 * LEFT, 14),
        (continued(SIZES, 2, 2), 2 * 2 * LEFT, 1.8),
        (contrast(SIZES, 4, 4), 8 * 4 * (32 + 4 * LEFT), 60),
        (written(SIZES, 4), 8 * 4 * 32, 4),
    ],
)
def test_the_worked_example(tokens, by_hand, multiple):
    assert tokens == by_hand
    assert abs(by_hand / 256 - multiple) <= 0.05 + 1e-9, "one decimal is given"


def test_a_branch_has_what_the_trajectory_has_left():
    assert SIZES.branch == LEFT == 112
    assert SIZES.end == 256 - LEFT, "branch and prefix make the trajectory"


ARMS = dict(boundaries=2, draws=2, latent_arms=4, surface_arms=2, max_candidates=6)
ARMS |= dict(equivalent_arms=1, swap_arms=3, corrupt_arms=5)


def config_of(kind="gated_gae", **arms):
    config = freeze(default())
    return dataclasses.replace(
        config,
        counterfactual=CounterfactualConfig(**(ARMS | arms)),
        credit=CreditConfig(kind=kind),
        batch_size=3,
        group_size=8,
    )


def budget_of(config, arch=None, **sizes):
    known = dict(steps=8, tokens=256, prompt=64, branch=112, answer=8)
    return budget(config, arch, **(known | sizes))


def test_a_configuration_is_the_sum_of_its_items():
    found = budget_of(config_of())
    tokens = {row.name: row.tokens for row in found.rows}
    assert tokens == {
        "rollout": 256,
        "Phi, continued": 448,
        "readout chain": 432,
        "delete": 0,
        "latent": 1536,
        "surface": 1408,
        "equivalent, decoded": 256,
        "equivalent": 640,
        "swap": 1920,
        "corrupt": 3200,
        "equivariance": 0,
        "encoded by another reader": 0,
    }
    decoded = {row.name for row in found.rows if row.decoded}
    assert decoded == {"rollout", "Phi, continued", "equivalent, decoded"}
    total = 448 + 432 + 1536 + 1408 + 256 + 640 + 1920 + 3200
    assert found.total.tokens == total and found.total.multiple == pytest.approx(total / 256)
    assert found.trajectories == 24 and found.total.flops is None


def test_what_is_not_asked_for_costs_nothing():
    assert [row.name for row in budget_of(config_of("outcome")).rows] == ["rollout"]
    none = {name: 0 for name in ARMS if name.endswith("_arms")}
    assert [row.name for row in budget_of(config_of(**none)).rows] == ["rollout", "Phi, continued"]
    none["latent_arms"] = 1
    free = [row.name for row in budget_of(config_of(**none)).rows if row.tokens == 0]
    names = ["delete", "surface", "equivalent, decoded", "equivalent", "corrupt", "swap"]
    assert free == [*names, "equivariance", "encoded by another reader"]


def test_trajectories_are_read_once_more_where_branches_leave_them():
    tokens = {row.name: row.tokens for row in budget_of(config_of(from_departure=True)).rows}
    assert tokens["departures"] == 256 - 256 / 8
    assert tokens["Phi, continued"] == 448  # the most


def test_values_read_at_once_have_no_branches_and_other_readers_encode_again():
    tokens = {row.name: row.tokens for row in budget_of(config_of(value="scored")).rows}
    assert tokens["Phi, continued"] == 0
    other = budget_of(config_of(reader="reference", equivariance_arms=2))
    tokens = {row.name: row.tokens for row in other.rows}
    assert tokens["encoded by another reader"] == 256 + 64 / 8
    assert tokens["equivariance"] == 2 * (64 + 256) + 2 * 2 * 8


@pytest.mark.parametrize("tied", [True, False])
def test_flops_of_a_small_decoder(tied):
    arch = Arch(11, width=8, depth=2, heads=2, kv_heads=1, head_dim=6, mlp_width=20, tied=tied)
    attention = 8 * 12 + 8 * 6 + 8 * 6 + 12 * 8  # q, k, v, o
    parameters = 2 * (attention + 3 * 8 * 20 + 2 * 8) + 8 + 11 * 8  # layers, last norm, readout
    assert flops(arch, 1, 0) == 2 * parameters
    # A head's score of a token is 6 products and 6 sums, and so is its share of the output.
    assert flops(arch, 10, 7) - flops(arch, 10, 0) == 10 * 7 * 2 * 2 * (12 + 12)


def test_flops_count_what_is_attended_to():
    arch = Arch(11, width=8, depth=2, heads=2, kv_heads=1, head_dim=6, mlp_width=20)
    rows = {row.name: row for row in budget_of(config_of(), arch).rows}
    context = {
        name: (row.flops / row.tokens - flops(arch, 1, 0)) / (4 * 2 * 12)
        for name, row in rows.items()
        if row.tokens
    }
    assert context["rollout"] == pytest.approx(64 + 128)
    assert context["Phi, continued"] == pytest.approx(64 + 144 + 56)
    assert context["latent"] == context["corrupt"] == pytest.approx(64 + 144)
    encoded, scored = 2 * 320, 8 * 2 * 48
    mixed = (encoded * 160 + scored * (64 + 144)) / (encoded + scored)
    assert context["surface"] == pytest.approx(mixed)
    total = budget_of(config_of(), arch).total
    extra = sum(row.flops for name, row in rows.items() if name != "rollout")
    assert total.flops == pytest.approx(extra)


def test_a_configuration_at_its_limits():
    config = config_of(branch_tokens=20)
    found = at_the_limits(config, None)  # 3 macro-steps, 64 tokens, answers of 6
    tokens = {row.name: row.tokens for row in found.rows}
    assert tokens["Phi, continued"] == 2 * 2 * 20
    assert tokens["latent"] == 3 * 4 * 6 * 6
    uncut = at_the_limits(config_of(), None)
    assert uncut.rows[1].tokens == 2 * 2 * 32


def test_the_command_prints_the_quickstart(capsys):
    quickstart = str(ROOT / "configs" / "quickstart.py")
    assert cli.main(cost.show, "", ["--config", quickstart]) == 0
    printed = capsys.readouterr().out
    for text in ("quickstart", "rollout", "readout chain", "sum of the extra", "128 traj"):
        assert text in printed
    arguments = ["--config", quickstart, "--config.policy.path=org/elsewhere"]
    assert cli.main(cost.show, "", arguments) == 0
    assert "a model directory" in " ".join(capsys.readouterr().out.split())


def test_a_directory_that_holds_no_model_is_refused(tmp_path):
    config = default()
    config.policy.path = str(tmp_path)
    with pytest.raises(UserError, match="config.json"):
        policy_shape(freeze(config))

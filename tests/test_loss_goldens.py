"""Losses and gradients of TRL's GRPO trainer; `scripts/make_loss_goldens.py` says how made."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.objective import policy_loss

GOLDEN = json.loads((pathlib.Path(__file__).parent / "losses_golden.json").read_text())
# Our options that are TRL's of that case.
OURS = {
    "grpo": dict(reduction="seq_mean_token_mean", beta=0.04),
    "grpo_correction": dict(reduction="seq_mean_token_mean", beta=0.04, kl_correction=True),
    "dr_grpo": dict(reduction="seq_mean_token_sum_norm"),
    "dapo": dict(reduction="token_mean", clip_high=0.28),
    "two_sided": dict(reduction="token_mean", dual_clip=1.3),
    "gspo": dict(loss="gspo", reduction="seq_mean_token_mean", clip_low=0.05, clip_high=0.08),
    "cispo": dict(loss="cispo", reduction="token_mean", ratio_cap=1.28),
    "entropy_bonus": dict(reduction="token_mean", entropy_bonus=0.1),
    "sampler_weights": dict(reduction="seq_mean_token_mean", beta=0.04),
}


def test_every_case_is_compared():
    assert set(OURS) == set(GOLDEN["cases"])


@pytest.mark.parametrize("case", OURS)
def test_loss_and_gradients_are_those_of_trl(case):
    x = {name: jnp.asarray(value, jnp.float32) for name, value in GOLDEN["inputs"].items()}
    mask = x["mask"] > 0
    advantage = jnp.broadcast_to(x["advantage"][:, None], mask.shape)
    weight = x["weight"] if case == "sampler_weights" else None

    def value(logp, entropy):
        loss = policy_loss(
            logp, x["old"], x["reference"], advantage, mask, entropy, weight,
            max_tokens=GOLDEN["max_tokens"], **OURS[case],
        )  # fmt: skip
        return loss.total / loss.denominator

    got, gradients = jax.value_and_grad(value, (0, 1))(x["logp"], x["entropy"])
    expected = GOLDEN["cases"][case]
    assert got == pytest.approx(expected["loss"], abs=2e-6)
    np.testing.assert_allclose(gradients[0], expected["by_logp"], atol=2e-6)
    np.testing.assert_allclose(gradients[1], expected["by_entropy"], atol=2e-6)


def test_the_cases_differ_and_clip():
    """An option that did nothing on these inputs would test nothing."""
    losses = [case["loss"] for case in GOLDEN["cases"].values()]
    assert len(set(losses)) == len(losses)
    inside = np.array(GOLDEN["inputs"]["mask"]) > 0
    for name in ("grpo", "dapo", "two_sided"):
        beta = GOLDEN["cases"][name]["options"].get("beta", 0)
        gradient = np.array(GOLDEN["cases"][name]["by_logp"])[inside]
        assert beta or 0 < (gradient == 0).sum() < gradient.size

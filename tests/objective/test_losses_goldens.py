"""Losses and gradients of TRL's and Tunix's GRPO losses on the same inputs.

`scripts/make_loss_goldens.py` and `scripts/make_tunix_goldens.py` say how they were made.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.objective.losses import policy_loss
from tests.helpers.paths import TESTS

FILES = {"trl": "losses_golden.json", "tunix": "losses_golden_tunix.json"}
LOSSES = {
    source: json.loads((TESTS / "objective" / name).read_text()) for source, name in FILES.items()
}
GRPO = dict(reduction="seq_mean_token_mean", beta=0.04)
DR_GRPO = dict(reduction="seq_mean_token_sum_norm")
GSPO = dict(loss="gspo", reduction="seq_mean_token_mean", clip_low=0.05, clip_high=0.08)
# Our options that are theirs of that case.
BOTH = {
    "grpo": GRPO,
    "dr_grpo": DR_GRPO,
    "dapo": dict(reduction="token_mean", clip_high=0.28),
    "two_sided": dict(reduction="token_mean", dual_clip=1.3),
    "gspo": GSPO,
    "sampler_weights": GRPO,
}
OURS = {
    "trl": BOTH
    | {
        "grpo_correction": GRPO | dict(kl_correction=True),
        "cispo": dict(loss="cispo", reduction="token_mean", ratio_cap=1.28),
        "entropy_bonus": dict(reduction="token_mean", entropy_bonus=0.1),
    },
    "tunix": BOTH
    | {
        "grpo_k1": GRPO | dict(kl="k1"),
        "grpo_k2": GRPO | dict(kl="k2"),
        "token_sum": dict(reduction="seq_mean_token_sum"),
        # Tunix has GSPO-token alone, which is GSPO if a response has one advantage.
        "gspo_token": GSPO | dict(loss="gspo_token"),
        "empty_row": GRPO,
        "empty_row_dr_grpo": DR_GRPO,
    },
}
CASES = [(source, case) for source, cases in OURS.items() for case in cases]


def inputs(source, case):
    """TRL's, which Tunix was run on too, with the arrays that a case has of its own."""
    return LOSSES["trl"]["inputs"] | LOSSES[source]["cases"][case].get("inputs", {})


@pytest.mark.parametrize("source", OURS)
def test_every_case_is_compared(source):
    assert set(OURS[source]) == set(LOSSES[source]["cases"])


@pytest.mark.parametrize(("source", "case"), CASES)
def test_loss_and_gradients_are_those_of_maintained_code(source, case):
    x = {name: jnp.asarray(value, jnp.float32) for name, value in inputs(source, case).items()}
    mask = x["mask"] > 0
    # An advantage a response, [N], or a token, [N, T].
    advantage = jnp.broadcast_to(x["advantage"].reshape(mask.shape[0], -1), mask.shape)
    weight = x["weight"] if case == "sampler_weights" else None

    def value(logp, entropy):
        loss = policy_loss(
            logp, x["old"], x["reference"], advantage, mask, entropy, weight,
            max_tokens=LOSSES[source]["max_tokens"], **OURS[source][case],
        )  # fmt: skip
        return loss.total / loss.denominator

    got, gradients = jax.value_and_grad(value, (0, 1))(x["logp"], x["entropy"])
    expected = LOSSES[source]["cases"][case]
    assert got == pytest.approx(expected["loss"], abs=2e-6)
    np.testing.assert_allclose(gradients[0], expected["by_logp"], atol=2e-6)
    # Tunix's loss has no entropy in it.
    np.testing.assert_allclose(gradients[1], expected.get("by_entropy", 0.0), atol=2e-6)


@pytest.mark.parametrize("source", OURS)
def test_the_cases_differ_and_clip(source):
    """An option that did nothing on these inputs would test nothing."""
    cases = LOSSES[source]["cases"]
    losses = [case["loss"] for case in cases.values()]
    assert len(set(losses)) == len(losses)
    for name in ("dr_grpo", "dapo", "two_sided", "gspo"):
        inside = np.array(inputs(source, name)["mask"]) > 0
        gradient = np.array(cases[name]["by_logp"])[inside]
        assert 0 < (gradient == 0).sum() < gradient.size
    # Both clips hold the same tokens at a positive advantage, so the dual clip makes this.
    assert cases["two_sided"]["by_logp"] != cases["dapo"]["by_logp"]

"""Where the method's own terms are off it is the baseline: advantage, loss, gradient, run.

no gate, lam 1, Phi the group's mean outcome   leave-one-out (RLOO)
additive with weight 0                         GRPO, bit by bit
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.advantage.kinds import credit_batch
from gccpo_jax.advantage.outcome import outcome_advantages
from gccpo_jax.config import CreditConfig
from gccpo_jax.masked import length_mask, masked_mean
from gccpo_jax.objective.update import gradient, rl_loss
from gccpo_jax.policy import weights
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.types import UpdateBatch
from tests.helpers import bigram
from tests.helpers.groups import E, G, T, change, group
from tests.helpers.runs import metrics, small

UNSCORABLE = ((), (2,))  # of each question
LOSS = rl_loss(bigram.POLICY, rule=Rule(), reduction="seq_mean_token_mean", beta=0.04)


@pytest.fixture(scope="module")
def groups():
    """Reading, spans and rollout of two questions; every trajectory has E steps."""
    both = [group(n, unscorable=u, counts=[E] * G) for n, u in enumerate(UNSCORABLE)]
    reading, spans, rollout = jax.tree.map(lambda *x: jnp.stack(x), *both)
    outcome = jnp.asarray([[1.0, 0, 0, 0], [0, 1, 1, 0]])
    tokens = np.random.default_rng(0).integers(0, bigram.V, rollout.tokens.shape)
    return change(reading, outcome=outcome), spans, change(rollout, tokens=jnp.asarray(tokens))


def credited(rule, reading, spans, rollout):
    """Token advantages [B, G, T] of a kind with steps."""
    found = credit_batch(reading, spans, rollout, jnp.bool_(True), rule=rule, max_other=0.2)
    return found.advantage


def by_outcome(baseline, reading, rollout):
    rule = CreditConfig(kind="outcome", baseline=baseline)
    outcome = jnp.where(reading.scorable, reading.outcome, 0.0)
    return jax.jit(jax.vmap(partial(outcome_advantages, rule=rule)))(
        outcome, reading.scorable, rollout
    )


@jax.jit
def updated(advantage, scorable, rollout):
    """Loss and gradient on the rollouts with these advantages."""
    random = np.random.default_rng(1)
    mask = length_mask(rollout.length, T) & scorable[..., None]
    batch = UpdateBatch(
        prompt=jnp.zeros((2, 1), jnp.int32),
        prompt_mask=jnp.ones((2, 1), bool),
        tokens=rollout.tokens,
        mask=mask,
        behaviour_logp=rollout.logp,
        reference_logp=rollout.logp + jnp.asarray(random.normal(0, 0.1, mask.shape)),
        advantage=advantage,
    )
    return gradient(LOSS, bigram.parameters(), batch, micro_batch=1)


def test_no_gate_no_decay_and_the_group_mean_as_value_is_rloo(groups):
    reading, spans, rollout = groups
    mean = jax.vmap(masked_mean)(reading.outcome, reading.scorable)
    constant = change(reading, value=jnp.broadcast_to(mean[:, None, None], reading.value.shape))
    found = credited(CreditConfig(gate=False, lam=1.0), constant, spans, rollout)
    wanted = by_outcome("leave_one_out", reading, rollout)
    assert np.abs(wanted).max() == 1
    np.testing.assert_allclose(found, wanted, atol=2e-7)
    found, wanted = (updated(a, reading.scorable, rollout) for a in (found, wanted))
    assert wanted[1].total != 0
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-7), found, wanted)


@pytest.mark.parametrize("token_weights", ["uniform", "surprise"])
def test_additive_with_weight_0_is_grpo_bit_by_bit(groups, token_weights):
    rule = CreditConfig(
        kind="additive", additive_weight=0.0, baseline="zscore", token_weights=token_weights
    )
    found, wanted = credited(rule, *groups), by_outcome("zscore", groups[0], groups[2])
    assert np.abs(wanted).max() == pytest.approx(1.5, rel=1e-3)
    np.testing.assert_array_equal(found, wanted)
    found, wanted = (updated(a, groups[0].scorable, groups[2]) for a in (found, wanted))
    assert all(np.any(g) for g in jax.tree.leaves(wanted[0]))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.slow
def test_a_run_with_additive_weight_0_is_a_grpo_run(tmp_path):
    """Loss, gradient norm and every weight after each update, though one of them reads steps."""
    kinds = {
        "additive": {"credit__kind": "additive", "credit__additive_weight": 0.0},
        "outcome": {"credit__kind": "outcome"},
    }
    for name, changes in kinds.items():
        c = small(credit__baseline="zscore", steps=2, eval__ood_questions=0, **changes)
        train.train_and_evaluate(c, name, tmp_path / name)
    found, wanted = (metrics(tmp_path / name) for name in kinds)
    assert any(row["grad_norm"] > 0 for row in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        for key in ("loss", "grad_norm", "kl", "accuracy", "length"):
            assert ours[key] == theirs[key], key
    ours, theirs = (weights.load(tmp_path / name / "policy")[1] for name in kinds)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)

"""Kinds without steps on a random group: against their oracles, and the laws of a group."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.advantage.outcome import outcome_advantages, shaped_outcome
from gccpo_jax.config import CreditConfig, RewardConfig
from tests.helpers import oracles_advantages as oracle
from tests.helpers.groups import G, T, group, padded_tokens, reorder

RULES = {
    "mean": CreditConfig(kind="outcome", baseline="mean"),
    "pass_at_k": CreditConfig(kind="outcome", baseline="pass_at_k", pass_k=2, epsilon=0.0),
    "zscore": CreditConfig(kind="outcome", baseline="zscore", ddof=0),
    "gtpo": CreditConfig(kind="gtpo", entropy_bonus=0.5),
    "grpo_s": CreditConfig(kind="grpo_s", entropy_base=2.0, ddof=0),
}


@jax.jit
def every(outcome, scorable, rollout):
    return {
        name: outcome_advantages(outcome, scorable, rollout, rule=r) for name, r in RULES.items()
    }


def with_entropy(rollout, seed):
    entropy = np.random.default_rng(seed).exponential(1, (G, T))
    return dataclasses.replace(rollout, entropy=jnp.asarray(entropy, jnp.float32))


def expected(outcomes, lengths, entropy):
    """Token advantages of each rule in float64."""
    right = [o is not None and o > 0.5 for o in outcomes]
    rows = [
        None if o is None else h[:n].tolist()
        for o, n, h in zip(outcomes, lengths, entropy, strict=True)
    ]
    means = [None if row is None else sum(row) / len(row) for row in rows]
    shaped = oracle.grpo_s_rewards(right, means, base=2.0)
    scalars = {
        "mean": oracle.mean_only(outcomes),
        "pass_at_k": oracle.pass_at_k(outcomes, 2),
        "zscore": oracle.zscore(outcomes, ddof=0),
        "grpo_s": oracle.zscore([None if r is None else round(r, 9) for r in shaped], ddof=0),
    }
    out = {
        name: [[a or 0.0] * n for a, n in zip(values, lengths, strict=True)]
        for name, values in scalars.items()
    }
    tokens = oracle.gtpo(right, rows, bonus=0.5)
    out["gtpo"] = [row or [] for row in tokens]
    return {name: padded_tokens(rows) for name, rows in out.items()}


@pytest.mark.parametrize("seed", range(6))
def test_each_kind_is_its_oracle_whatever_is_masked_and_in_any_order(seed):
    unscorable = (1,) if seed % 2 else ()
    reading, _, rollout = group(seed, unscorable=unscorable)
    rollout = with_entropy(rollout, seed)
    where = np.asarray(reading.scorable)
    outcomes = [float(o) if w else None for o, w in zip(reading.outcome, where, strict=True)]
    wanted = expected(outcomes, rollout.length.tolist(), np.asarray(rollout.entropy, np.float64))
    got = every(reading.outcome, reading.scorable, rollout)
    order = [2, 0, 3, 1]
    again = every(*reorder((reading.outcome, reading.scorable, rollout), order))
    for name in RULES:
        found = np.asarray(got[name])
        np.testing.assert_allclose(found, wanted[name], atol=2e-3, err_msg=name)
        assert not found[~where].any(), name
        np.testing.assert_allclose(again[name], found[order], atol=1e-4, err_msg=name)


def test_a_group_without_a_scorable_trajectory_is_zero():
    reading, _, rollout = group(0, unscorable=range(G))
    for found in every(reading.outcome, reading.scorable, with_entropy(rollout, 0)).values():
        np.testing.assert_array_equal(found, np.zeros((G, T)))


def test_shaping_adds_up():
    _, _, rollout = group()
    rollout = dataclasses.replace(
        rollout,
        length=jnp.array([4, 12, 16, 16]),
        stopped=jnp.array([True, True, True, False]),
    )
    rule = RewardConfig(overlong=8, length_penalty=0.2)
    shape = jax.jit(partial(shaped_outcome, limit=16, rule=rule))
    outcome, yes = jnp.array([1.0, 1, 0, 1]), jnp.ones(G, bool)
    rows = [(1.0, 4, True), (1.0, 12, True), (0.0, 16, True), (1.0, 16, False)]
    penalised = oracle.length_penalised(rows, 0.2)
    late = [oracle.soft_overlong(n, 16, 8) for _, n, _ in rows]
    wanted = np.add(penalised, late)
    np.testing.assert_allclose(shape(outcome, yes, rollout), wanted, atol=1e-6)
    some = jnp.array([True, True, True, False])
    assert shape(outcome, some, rollout)[3] == 0
    off = shaped_outcome(outcome, yes, rollout, limit=16, rule=RewardConfig())
    np.testing.assert_array_equal(off, outcome)

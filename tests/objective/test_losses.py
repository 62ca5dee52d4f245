"""Every loss with every reduction, penalty and bonus, against `oracles_objective`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.objective.kl import ESTIMATORS
from gccpo_jax.objective.losses import LOSSES, policy_loss
from gccpo_jax.objective.reductions import REDUCTIONS, reduce_tokens
from tests.helpers import oracles_objective as oracle

N, T = 4, 6
LENGTHS = np.array([6, 2, 0, 3])
PLAIN = dict(clip_low=0.2, clip_high=0.28, dual_clip=3.0, ratio_cap=1.28, beta=0.04, kl="k3",
             kl_correction=False, entropy_bonus=0.05, max_tokens=8)  # fmt: skip
TIGHT = dict(clip_low=0.03, clip_high=0.04)  # so that GSPO clips too
PAIRS = [*((loss, r) for loss in ("ppo", "cispo") for r in REDUCTIONS)]
PAIRS += [("gspo", "seq_mean_token_mean"), ("gspo_token", "seq_mean_token_mean")]


@partial(jax.jit, static_argnames=(*PLAIN, "loss", "reduction"))
def value_and_gradient(logp, *rest, **options):
    def value(logp):
        loss = policy_loss(logp, *rest, **options)
        return loss.total / jnp.maximum(loss.denominator, 1), loss

    (_, loss), gradient = jax.value_and_grad(value, has_aux=True)(logp)
    return loss, gradient


def batch(seed=0, spread=0.4):
    """logp, old, reference, advantage, mask, entropy, weight: [4, 6]; row 2 is empty."""
    random = np.random.default_rng(seed)
    logp = -random.uniform(0.2, 2, (N, T))
    old, reference = logp + random.normal(0, spread, (2, N, T))
    floats = [logp, old, reference, random.normal(size=(N, T))]
    floats += [random.uniform(0, 2, (N, T)), random.uniform(0.2, 2, (N, T))]
    floats = [jnp.asarray(x, jnp.float32) for x in floats]
    mask = jnp.asarray(np.arange(T) < LENGTHS[:, None])
    return *floats[:4], mask, *floats[4:]


def rows(x):
    return [np.asarray(x, np.float64)[i, :n].tolist() for i, n in enumerate(LENGTHS)]


def oracle_of(arrays, frozen, options):
    old, reference, advantage = (rows(x) for x in arrays[1:4])
    o = options
    return lambda logp: oracle.loss(
        logp, old, reference, advantage, rows(arrays[5]), rows(arrays[6]), loss=o["loss"],
        frozen=frozen, low=o["clip_low"], high=o["clip_high"], dual=o["dual_clip"] or None,
        cap=o["ratio_cap"], beta=o["beta"], kl=o["kl"], correction=o["kl_correction"],
        bonus=o["entropy_bonus"], reduction=o["reduction"], limit=8,
    )  # fmt: skip


def check_against_the_oracle(options, seed=0):
    arrays = batch(seed)
    loss, gradient = value_and_gradient(*arrays, **options)
    logp = rows(arrays[0])
    f = oracle_of(arrays, logp, options)
    assert loss.total / loss.denominator == pytest.approx(f(logp), abs=2e-6)
    for i, slope in enumerate(oracle.slopes(f, logp)):
        np.testing.assert_allclose(gradient[i, : LENGTHS[i]], slope, atol=1e-5)
        assert not np.any(gradient[i, LENGTHS[i] :])


@pytest.mark.parametrize(("loss", "reduction"), PAIRS)
def test_value_and_gradient_equal_the_oracle(loss, reduction):
    options = PLAIN | {"loss": loss, "reduction": reduction}
    check_against_the_oracle(options | (TIGHT if "gspo" in loss else {}))


@pytest.mark.parametrize("kl", ESTIMATORS)
@pytest.mark.parametrize("correction", [False, True])
def test_every_penalty_equals_the_oracle(kl, correction):
    options = {"loss": "ppo", "reduction": "token_mean", "kl": kl, "kl_correction": correction}
    check_against_the_oracle(PLAIN | options | {"beta": 0.3}, seed=1)


@pytest.mark.parametrize(("loss", "reduction"), PAIRS)
def test_on_policy_the_gradient_is_that_of_reinforce(loss, reduction):
    logp, _, reference, advantage, mask, *_ = batch()
    if loss == "gspo":  # one advantage a response
        advantage = jnp.broadcast_to(advantage[:, :1], (N, T))

    def reinforce(logp):
        total, count = reduce_tokens(-advantage * logp, mask, reduction, 8)
        return total / count

    options = PLAIN | {"loss": loss, "reduction": reduction, "beta": 0.0, "entropy_bonus": 0.0}
    _, gradient = value_and_gradient(logp, logp, reference, advantage, mask, **options)
    np.testing.assert_allclose(gradient, jax.grad(reinforce)(logp), atol=1e-6)


def test_gspo_number():
    """Two responses with s = 1.051271 and .990050, A = (1, -1), clips 3e-4 and 4e-4."""
    old = jnp.zeros((2, 3))
    logp = jnp.array([[0.2, -0.1, 0.0], [-0.05, 0.01, 0.01]])
    mask = jnp.array([[True, True, False], [True, True, True]])
    advantage = jnp.broadcast_to(jnp.array([[1.0], [-1.0]]), (2, 3))
    for name in ("gspo", "gspo_token"):
        loss = policy_loss(
            logp, old, old, advantage, mask, loss=name, clip_low=3e-4, clip_high=4e-4,
            reduction="seq_mean_token_mean",
        )  # fmt: skip
        assert loss.total / loss.denominator == pytest.approx(-0.00035, abs=1e-6)
        assert loss.clipped == 5


def test_gspo_token_is_gspo_for_one_advantage_a_response():
    logp, old, reference, advantage, mask, *_ = batch()
    advantage = jnp.broadcast_to(advantage[:, :1], (N, T))
    found = [
        value_and_gradient(
            logp, old, reference, advantage, mask,
            **PLAIN | {"loss": loss, "reduction": "seq_mean_token_mean", "entropy_bonus": 0.0},
        )
        for loss in ("gspo", "gspo_token")
    ]  # fmt: skip
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), *found)


def test_gspo_of_one_token_is_grpo():
    arrays = batch()
    first = jnp.asarray(np.arange(T)[None] == 0) & arrays[4]
    options = PLAIN | {"reduction": "seq_mean_token_mean", "entropy_bonus": 0.0}
    found = [
        value_and_gradient(*arrays[:4], first, **options | {"loss": loss})
        for loss in ("ppo", "gspo", "gspo_token")
    ]
    for other in found[1:]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found[0], other)


def test_cispo_number():
    logp, old = jnp.array([[-0.5, -2.0]]), jnp.array([[-1.0, -1.0]])
    ones = jnp.ones((1, 2))

    def value(logp):
        loss = policy_loss(logp, old, old, ones, ones > 0, loss="cispo", ratio_cap=1.28)
        return loss.total / loss.denominator

    got, gradient = jax.value_and_grad(value)(logp)
    assert got == pytest.approx(0.687879, abs=1e-6)
    np.testing.assert_allclose(gradient, [[-0.64, -0.367879 / 2]], atol=1e-6)


def test_cispo_moves_every_token_where_ppo_drops_some():
    arrays = batch(spread=1.0)
    options = PLAIN | {"reduction": "token_mean", "beta": 0.0, "entropy_bonus": 0.0}
    ppo, cispo = (
        value_and_gradient(*arrays, **options | {"loss": loss})[1][arrays[4]]
        for loss in ("ppo", "cispo")
    )
    assert np.any(ppo == 0) and np.all(cispo != 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_and_order_change_nothing(loss):
    options = PLAIN | {"loss": loss, "reduction": "seq_mean_token_mean"}
    arrays = batch()
    value, gradient = value_and_gradient(*arrays, **options)
    mask = jnp.pad(arrays[4], ((0, 1), (0, 2)))
    wide = [jnp.pad(x, ((0, 1), (0, 2)), constant_values=-7) for x in arrays]
    padded, found = value_and_gradient(*wide[:4], mask, *wide[5:], **options)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), value, padded)
    np.testing.assert_allclose(found[:N, :T], gradient, rtol=1e-5, atol=1e-8)
    assert not np.any(found[N:]) and not np.any(found[:, T:])
    order = np.array([3, 0, 2, 1])
    moved, found = value_and_gradient(*(x[order] for x in arrays), **options)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), value, moved)
    np.testing.assert_allclose(found, gradient[order], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", ["empty", "padding is not finite", "extreme ratio", "no contrast"])
def test_finite_at_the_edges(loss, case):
    logp, old, reference, advantage, mask, entropy, weight = batch()
    if case == "empty":
        mask = jnp.zeros_like(mask)
    if case == "padding is not finite":
        old, logp = jnp.where(mask, old, -jnp.inf), jnp.where(mask, logp, -jnp.inf)
        advantage, weight = (jnp.where(mask, x, jnp.inf) for x in (advantage, weight))
    if case == "extreme ratio":
        logp, old = logp.at[0, 0].set(-1e30), old.at[1, 0].set(-1e30)
    if case == "no contrast":
        advantage = jnp.zeros_like(advantage)
    options = PLAIN | {"loss": loss, "reduction": "seq_mean_token_mean", "kl_correction": True}
    arrays = (logp, old, reference, advantage, mask, entropy, weight)
    found, gradient = value_and_gradient(*arrays, **options)
    assert all(np.isfinite(x) for x in jax.tree.leaves(found)) and np.isfinite(gradient).all()
    assert not np.any(gradient[~mask])
    assert case != "empty" or (found.total, found.denominator) == (0, 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batches_add_up_and_jit_is_plain(loss):
    arrays = batch()
    options = PLAIN | {"loss": loss, "reduction": "seq_mean_token_mean"}
    whole = policy_loss(*arrays, **options)
    parts = [policy_loss(*(x[i] for x in arrays), **options) for i in (slice(1), slice(1, N))]
    jax.tree.map(lambda w, a, b: np.testing.assert_allclose(a + b, w, rtol=1e-5), whole, *parts)
    fast, _ = value_and_gradient(*arrays, **options)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), whole, fast)


@pytest.mark.parametrize("loss", LOSSES)
def test_only_the_policy_and_its_entropy_have_a_gradient(loss):
    arrays = batch()
    mask = arrays[4]

    def value(logp, old, reference, advantage, entropy, weight):
        args = (logp, old, reference, advantage, mask, entropy, weight)
        options = PLAIN | {"loss": loss, "reduction": "token_mean"}
        return policy_loss(*args, **options).total

    got = jax.grad(value, argnums=range(6))(*arrays[:4], *arrays[5:])
    assert [bool(np.any(g)) for g in got] == [True, False, False, False, True, False]
    np.testing.assert_allclose(got[4], jnp.where(mask, -PLAIN["entropy_bonus"], 0.0), atol=1e-7)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss 'grpo': choose one of ppo, gspo"):
        policy_loss(*batch(), loss="grpo")

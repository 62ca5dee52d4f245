"""The update: log-probabilities, micro-batches, the on-policy identity, the optimizer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from gccpo_jax import noise, sharding
from gccpo_jax.law import Rule
from gccpo_jax.logprobs import token_logp
from gccpo_jax.masked import first
from gccpo_jax.objective import REDUCTIONS
from gccpo_jax.sampling import sample
from gccpo_jax.types import UpdateBatch
from gccpo_jax.update import TrainState, gradient, make_optimizer, make_update, rl_loss, sft_loss

RULES = [Rule(), Rule(temperature=0.7), Rule(top_k=3), Rule(temperature=1.3, top_p=0.8)]
ROWS = [0, 1, 2, 3]


@pytest.fixture(scope="module", params=RULES, ids=str)
def sampled(request):
    """A batch of toy rollouts and the rule they were sampled with."""
    prompts = toy.prompts(ROWS)
    keys = noise.question_keys(jax.random.key(3), 0, prompts.ids)
    _, rollout = sample(
        toy.POLICY, toy.PARAMS, prompts, keys, toy.IS_STOP,
        group=3, rule=request.param, max_tokens=8,
    )  # fmt: skip
    mask = first(rollout.length, 8)
    random = np.random.default_rng(0)
    batch = UpdateBatch(
        prompt=jnp.asarray(prompts.tokens),
        prompt_mask=jnp.asarray(prompts.mask),
        tokens=rollout.tokens,
        mask=mask,
        behaviour_logp=rollout.logp,
        reference_logp=jnp.asarray(rollout.logp + random.normal(0, 0.1, mask.shape), jnp.float32),
        advantage=jnp.asarray(random.normal(0, 1, mask.shape), jnp.float32),
    )
    return batch, request.param


def logp_of(params, batch, rule, **more):
    return token_logp(
        toy.POLICY, params, batch.prompt, batch.prompt_mask, batch.tokens, batch.mask,
        rule=rule, **more,
    )  # fmt: skip


def loss_fn(rule=RULES[0], beta=0.0, reduction="token_mean"):
    return rl_loss(
        toy.POLICY, rule=rule, clip_low=0.2, clip_high=0.2, beta=beta,
        reduction=reduction, max_tokens=8,
    )  # fmt: skip


def test_the_update_sees_the_law_that_was_sampled(sampled):
    batch, rule = sampled
    np.testing.assert_allclose(logp_of(toy.PARAMS, batch, rule), batch.behaviour_logp, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 5, 96, 1000])
def test_the_chunk_size_changes_nothing(sampled, chunk):
    batch, rule = sampled
    total = lambda p, c: (logp_of(p, batch, rule, chunk=c) * batch.advantage).sum()  # noqa: E731
    ours, theirs = (jax.value_and_grad(total)(toy.PARAMS, c) for c in (chunk, 33))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), ours, theirs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_on_policy_the_gradient_is_that_of_the_weighted_log_probability(sampled, reduction):
    batch, rule = sampled
    grads, loss = gradient(loss_fn(rule, reduction=reduction), toy.PARAMS, batch, len(ROWS))

    def reinforce(params):
        x = (logp_of(params, batch, rule) * batch.advantage).reshape(-1, 8)
        mask = batch.mask.reshape(-1, 8)
        sums, counts = (x * mask).sum(1), mask.sum(1)
        return {
            "token_mean": -sums.sum() / counts.sum(),
            "seq_mean_token_mean": -(sums / counts).mean(),
            "seq_mean_token_sum": -sums.mean(),
            "seq_mean_token_sum_norm": -sums.mean() / 8,
        }[reduction]

    expected = jax.grad(reinforce)(toy.PARAMS)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), grads, expected)
    assert float(loss.ratio / loss.tokens) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("micro_batch", [1, 2])
def test_micro_batches_are_the_whole_batch(sampled, reduction, micro_batch):
    batch, rule = sampled
    fn = loss_fn(rule, beta=0.1, reduction=reduction)
    whole = gradient(fn, toy.PARAMS, batch, len(ROWS))
    parts = gradient(fn, toy.PARAMS, batch, micro_batch)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), whole, parts)


def test_a_micro_batch_that_does_not_divide_is_refused(sampled):
    with pytest.raises(ValueError, match="micro-batch 3 does not divide the batch of 4"):
        gradient(loss_fn(), toy.PARAMS, sampled[0], 3)


def test_rows_that_are_masked_out_do_not_train(sampled):
    batch, rule = sampled
    fields = {**vars(batch), "mask": batch.mask.at[2].set(False)}
    without = UpdateBatch(**fields)
    absurd = UpdateBatch(**{**fields, "advantage": batch.advantage.at[2].set(1e6)})
    ours, theirs = (gradient(loss_fn(rule), toy.PARAMS, b, 4)[0] for b in (without, absurd))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_nothing_to_train_on_is_a_zero_gradient(sampled):
    batch, rule = sampled
    nothing = UpdateBatch(**{**vars(batch), "mask": jnp.zeros_like(batch.mask)})
    grads, _ = gradient(loss_fn(rule, beta=0.1), toy.PARAMS, nothing, 2)
    assert all(not np.asarray(g).any() for g in jax.tree.leaves(grads))


def test_updates_raise_the_probability_of_what_was_rewarded(sampled):
    batch, rule = sampled
    one = jnp.zeros_like(batch.advantage).at[0, 0].set(1.0)
    batch = UpdateBatch(**{**vars(batch), "advantage": one})
    optimizer = make_optimizer(lr=0.02, steps=5)
    state = TrainState(jax.tree.map(jnp.copy, toy.PARAMS), optimizer.init(toy.PARAMS), jnp.int32(0))
    update = make_update(loss_fn(rule), optimizer, micro_batch=2)
    for _ in range(3):
        state, metrics = update(state, batch)
    before, after = (logp_of(p, batch, Rule())[0, 0].sum() for p in (toy.PARAMS, state.params))
    assert after > before
    assert int(state.step) == 3 and all(np.isfinite(float(x)) for x in metrics.values())


def test_eight_devices_are_one(sampled):
    batch, rule = sampled
    mesh = sharding.make_mesh(data=4)
    fn = jax.jit(lambda p, b: gradient(loss_fn(rule, beta=0.1), p, b, 4))
    one = fn(toy.PARAMS, batch)
    many = fn(toy.PARAMS, sharding.put_batch(mesh, batch))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), one, many)


def test_supervised_loss_is_the_mean_negative_log_likelihood(sampled):
    batch, _ = sampled
    grads, loss = gradient(sft_loss(toy.POLICY), toy.PARAMS, batch, 2)
    mean = lambda p: -(logp_of(p, batch, Rule()).sum() / batch.mask.sum())  # noqa: E731
    value, expected = jax.value_and_grad(mean)(toy.PARAMS)
    assert float(loss.total / loss.denominator) == pytest.approx(float(value), abs=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), grads, expected)


def rates(decay, warmup, steps=10):
    """Learning rates: without averages Adam moves by lr on a constant gradient."""
    optimizer = make_optimizer(
        lr=1.0, steps=steps, warmup=warmup, decay=decay, clip_norm=0, b1=0.0, b2=0.0
    )
    params = {"w": jnp.zeros((2, 2))}
    state = optimizer.init(params)
    found = []
    for _ in range(steps):
        updates, state = optimizer.update({"w": jnp.ones((2, 2))}, state, params)
        found.append(-float(updates["w"][0, 0]))
    return found


def test_schedules():
    np.testing.assert_allclose(rates("constant", 0), np.ones(10), rtol=1e-5)
    np.testing.assert_allclose(rates("constant", 4)[:5], [0.25, 0.5, 0.75, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(rates("linear", 0), 1 - np.arange(10) / 10, rtol=1e-5)
    cosine = rates("cosine", 2)
    assert cosine[1] == pytest.approx(1, rel=1e-5) and cosine[2] == pytest.approx(1, rel=1e-5)
    assert all(a > b for a, b in zip(cosine[2:], cosine[3:], strict=False))


def test_weight_decay_leaves_norms_and_biases_alone():
    optimizer = make_optimizer(lr=0.1, steps=10, weight_decay=0.5)
    params = {
        "embed": jnp.ones((3, 2)),
        "layers": {"norm": jnp.ones((4, 3)), "w": jnp.ones((4, 3, 3))},
    }
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    assert not np.asarray(updates["layers"]["norm"]).any()
    assert (np.asarray(updates["layers"]["w"]) < 0).all() and (
        np.asarray(updates["embed"]) < 0
    ).all()


def test_gradients_are_clipped_by_their_global_norm():
    params = {"w": jnp.zeros((2, 2))}
    grads = {"w": jnp.full((2, 2), 50.0)}
    optimizer = make_optimizer(lr=1.0, steps=10, clip_norm=1.0, eps=1e3)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # eps dwarfs the gradient, so the update is proportional to the clipped gradient.
    assert float(optax.tree.norm(updates)) == pytest.approx(1e-3, rel=0.01)

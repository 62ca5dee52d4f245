"""The update: log-probabilities, the on-policy identity, the optimizer."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from gccpo_jax.objective.reductions import REDUCTIONS
from gccpo_jax.objective.update import gradient, make_optimizer, make_update, sft_loss
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.logprobs import token_logp, token_logp_and_entropy
from gccpo_jax.policy.token_law import Rule, entropy, log_law
from gccpo_jax.types import TrainState, UpdateBatch
from tests.helpers import toy
from tests.helpers.updates import ROWS, RULE, RULES, loss_fn, sampled


@pytest.fixture(scope="module")
def batch():
    return sampled(RULE)


@partial(jax.jit, static_argnames=("rule", "chunk"))
def logp_of(params, batch, rule=RULE, chunk=1024):
    return token_logp(
        toy.POLICY, params, batch.prompt, batch.prompt_mask, batch.tokens, batch.mask,
        rule=rule, chunk=chunk,
    )  # fmt: skip


@functools.cache
def compiled(micro_batch=4, **options):
    """`gradient` as a function of parameters and batch, compiled once for the module."""
    return jax.jit(partial(gradient, loss_fn(**options), micro_batch=micro_batch))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_update_sees_the_law_that_was_sampled(rule):
    batch = sampled(rule)
    np.testing.assert_allclose(logp_of(toy.PARAMS, batch, rule), batch.behaviour_logp, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 33])
def test_the_chunk_size_changes_nothing(batch, chunk):
    """One by one, and with a last chunk that is not full, against all at once."""
    total = jax.value_and_grad(lambda p, c: (logp_of(p, batch, chunk=c) * batch.advantage).sum())
    ours, theirs = total(toy.PARAMS, chunk), total(toy.PARAMS, 1024)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), ours, theirs)


@pytest.fixture(scope="module")
def reinforce(batch):
    """The gradient of -reduce(A log pi), under each reduction."""

    def losses(params):
        x = (logp_of(params, batch) * batch.advantage).reshape(-1, 8)
        mask = batch.mask.reshape(-1, 8)
        sums, counts = (x * mask).sum(1), mask.sum(1)
        return {
            "token_mean": -sums.sum() / counts.sum(),
            "seq_mean_token_mean": -(sums / counts).mean(),
            "seq_mean_token_sum": -sums.mean(),
            "seq_mean_token_sum_norm": -sums.mean() / 8,
        }

    return jax.jit(jax.jacrev(losses))(toy.PARAMS)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_on_policy_the_gradient_is_that_of_the_weighted_log_probability(
    batch, reinforce, reduction
):
    grads, loss = compiled(reduction=reduction)(toy.PARAMS, batch)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), grads, reinforce[reduction])
    assert float(loss.ratio / loss.tokens) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rule", [RULES[0], RULES[3]], ids=str)
def test_entropies_are_those_of_the_law_that_was_sampled(rule):
    """Against the toy's closed form, token by token, in more than one chunk."""
    batch = sampled(rule)
    inputs = (batch.prompt, batch.prompt_mask, batch.tokens, batch.mask)
    logp, nats = token_logp_and_entropy(toy.POLICY, toy.PARAMS, *inputs, rule=rule, chunk=50)
    np.testing.assert_allclose(logp, batch.behaviour_logp, atol=1e-5)
    assert not np.any(nats[~batch.mask])
    for b, g in np.ndindex(2, 3):
        text = list(toy.PROMPTS[ROWS[b]])
        for t in range(int(batch.mask[b, g].sum())):
            law = log_law(jnp.asarray(toy.next_logits(text), jnp.float32), rule)
            assert nats[b, g, t] == pytest.approx(float(entropy(law)), abs=1e-4)
            text.append(int(batch.tokens[b, g, t]))


def test_the_entropy_bonus_is_the_gradient_of_the_mean_entropy(batch):
    """Laws with excluded tokens included; advantages of 0 leave nothing else."""
    batch = UpdateBatch(**{**vars(batch), "advantage": jnp.zeros_like(batch.advantage)})
    got, _ = compiled(entropy_bonus=0.5)(toy.PARAMS, batch)

    def bonus(params):
        inputs = (batch.prompt, batch.prompt_mask, batch.tokens, batch.mask)
        _, nats = token_logp_and_entropy(toy.POLICY, params, *inputs, rule=RULE)
        return -0.5 * nats.sum() / batch.mask.sum()

    expected = jax.jit(jax.grad(bonus))(toy.PARAMS)
    assert any(np.asarray(g).any() for g in jax.tree.leaves(got))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), got, expected)


def test_a_micro_batch_that_does_not_divide_is_refused(batch):
    with pytest.raises(ValueError, match="micro-batch 3 does not divide the batch of 4"):
        gradient(loss_fn(), toy.PARAMS, batch, 3)


def test_rows_that_are_masked_out_do_not_train(batch):
    fields = {**vars(batch), "mask": batch.mask.at[2].set(False)}
    without = UpdateBatch(**fields)
    absurd = UpdateBatch(**{**fields, "advantage": batch.advantage.at[2].set(1e6)})
    every = compiled(reduction="token_mean")
    ours, theirs = (every(toy.PARAMS, b)[0] for b in (without, absurd))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_nothing_to_train_on_is_a_zero_gradient(batch):
    nothing = UpdateBatch(**{**vars(batch), "mask": jnp.zeros_like(batch.mask)})
    grads, _ = compiled(2, beta=0.1, reduction="token_mean")(toy.PARAMS, nothing)
    assert all(not np.asarray(g).any() for g in jax.tree.leaves(grads))


def test_updates_raise_the_probability_of_what_was_rewarded(batch):
    one = jnp.zeros_like(batch.advantage).at[0, 0].set(1.0)
    batch = UpdateBatch(**{**vars(batch), "advantage": one})
    optimizer = make_optimizer(lr=0.02, steps=5)
    state = TrainState(jax.tree.map(jnp.copy, toy.PARAMS), optimizer.init(toy.PARAMS), jnp.int32(0))
    update = make_update(loss_fn(), optimizer, micro_batch=2)
    for _ in range(3):
        state, metrics = update(state, batch)
    before, after = (logp_of(p, batch, Rule())[0, 0].sum() for p in (toy.PARAMS, state.params))
    assert after > before
    assert int(state.step) == 3 and all(np.isfinite(float(x)) for x in metrics.values())


def test_supervised_loss_is_the_mean_negative_log_likelihood(batch):
    grads, loss = jax.jit(partial(gradient, sft_loss(toy.POLICY), micro_batch=2))(toy.PARAMS, batch)
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


FAMILIES = {
    "bias": {"qkv_bias": True, "out_bias": True},  # Qwen2, and a Llama with biases
    "norm": {"qk_norm": True, "tied": False},  # Qwen3
}


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_decay_leaves_norms_and_biases_alone(family):
    """Every leaf of a decoder, by its definition: matrices alone have inputs to be scaled by."""
    arch = Arch(6, 8, 2, 2, 1, 4, 8, **FAMILIES[family])
    optimizer = make_optimizer(lr=0.1, steps=10, weight_decay=0.5)
    params = jax.tree.map(jnp.ones_like, model.init(arch, jax.random.key(0)))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    moved = traverse_util.flatten_dict(updates, sep="/")
    assert any(name.endswith(family) for name in moved)
    for name, leaf in model.layout(arch).items():
        assert np.asarray(moved[name] != 0).all() == (leaf.std > 0), name


def test_gradients_are_clipped_by_their_global_norm():
    params = {"w": jnp.zeros((2, 2))}
    grads = {"w": jnp.full((2, 2), 50.0)}
    optimizer = make_optimizer(lr=1.0, steps=10, clip_norm=1.0, eps=1e3)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # eps dwarfs the gradient, so the update is proportional to the clipped gradient.
    assert float(optax.tree.norm(updates)) == pytest.approx(1e-3, rel=0.01)

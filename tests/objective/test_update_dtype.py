"""Weights kept in float32 and rounded in use: what a rounded copy gives, and updates that count."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gccpo_jax.objective.update import (
    gradient,
    group_loss,
    make_optimizer,
    make_update,
    old_logp,
    rl_loss,
)
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.checkpoints import Checkpoints
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.ring_queue import sampler
from gccpo_jax.train import sampled_apart
from gccpo_jax.types import Prompts, TrainState, UpdateBatch

B, G, S, T, V = 2, 3, 6, 9, 40
WIDE = Arch(V, 32, 2, 4, 2, 8, 48, qkv_bias=True)
NARROW = dataclasses.replace(WIDE, dtype="bfloat16")
PROMPTS = Prompts(
    jax.random.randint(jax.random.key(1), (B, S), 1, V),
    jnp.arange(S)[None] < jnp.array([S, S - 2])[:, None],
    jnp.arange(B, dtype=jnp.uint32),
)


@pytest.fixture(scope="module")
def params():
    return model.init(WIDE, jax.random.key(0))


def rounded(params):
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)


def batch_of(rollout):
    inside = jnp.arange(T)[None, None] < rollout.length[..., None]
    return UpdateBatch(
        prompt=PROMPTS.tokens,
        prompt_mask=PROMPTS.mask,
        tokens=rollout.tokens,
        mask=inside,
        behaviour_logp=rollout.logp,
        reference_logp=rollout.logp,
        advantage=jnp.where(inside, jnp.linspace(-1, 1, B * G).reshape(B, G, 1), 0.0),
    )


def sampled(policy, params, slots):
    keys = noise.question_keys(jax.random.key(3), 0, PROMPTS.ids)
    stop = jnp.zeros(V, bool).at[7].set(True)
    draw = sampler(slots)
    return draw(policy, params, PROMPTS, keys, stop, group=G, rule=Rule(1.0), max_tokens=T)[1]


@pytest.mark.parametrize("slots", [0, 2])
def test_rollouts_are_those_of_a_rounded_copy(params, slots):
    found = sampled(model.make_policy(WIDE, compute="bfloat16"), params, slots)
    copy = sampled(model.make_policy(NARROW), rounded(params), slots)
    assert found.segment.k.dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, found, copy)


@pytest.mark.parametrize("remat", [False, True])
def test_gradients_are_those_of_a_rounded_copy_in_float32(params, remat):
    batch = batch_of(sampled(model.make_policy(WIDE), params, 0))

    def found(policy, params):
        return gradient(rl_loss(policy, rule=Rule(1.0), max_tokens=T), params, batch, B)

    wide, loss = found(model.make_policy(WIDE, remat, compute="bfloat16"), params)
    narrow, same = found(model.make_policy(NARROW, remat), rounded(params))
    assert {x.dtype for x in jax.tree.leaves(wide)} == {jnp.dtype("float32")}
    assert loss.total == same.total, "the forward pass is the same"
    # The sums over places where a weight is used are added up in float32 here.
    for ours, theirs in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        assert np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)
    exact, _ = found(model.make_policy(WIDE, remat), params)
    for ours, theirs in zip(jax.tree.leaves(wide), jax.tree.leaves(exact), strict=True):
        assert 0 < np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs)


def of_two_programs(policy, params):
    """A batch with what sampling recorded, and the same as a training step hands it on."""
    batch = batch_of(sampled(policy, params, 0))
    read = jax.jit(partial(token_logp, policy, rule=Rule(1.0)))
    return batch, sampled_apart(batch, params, read)


@pytest.mark.parametrize("loss", ["gspo", "ppo", "gvpo"])
def test_the_first_update_of_a_narrow_policy_is_on_policy(params, loss):
    """Rounded sampling and rounded training differ; GSPO's clip takes that for a new policy."""
    policy = model.make_policy(NARROW)
    recorded, apart = of_two_programs(policy, rounded(params))
    if loss == "gvpo":
        fields = dict(reward=jnp.arange(6.0).reshape(B, G))
        recorded, apart = (dataclasses.replace(x, **fields) for x in (recorded, apart))
        loss = group_loss(policy, rule=Rule(1.0), scale=1.0)
    else:
        clips = dict(clip_low=3e-4, clip_high=4e-4, reduction="seq_mean_token_mean")
        loss = rl_loss(policy, rule=Rule(1.0), max_tokens=T, loss=loss, **clips)
    _, before = gradient(loss, rounded(params), recorded, B)
    _, first = gradient(loss, rounded(params), apart, 1)
    assert before.mismatch is None and before.drift > 0, "or there is nothing to test"
    assert first.ratio == first.tokens and first.drift == 0 and first.clipped == 0
    assert 0 < first.mismatch / first.tokens < 0.1


def test_later_updates_of_a_narrow_policy_compare_with_what_was_read_again(params):
    policy = model.make_policy(NARROW)
    _, apart = of_two_programs(policy, rounded(params))
    assert apart.fresh.all() and np.any(apart.behaviour_logp != apart.sampler_logp)
    assert old_logp(apart.behaviour_logp + 1, apart).max() > apart.behaviour_logp.max()
    later = dataclasses.replace(apart, fresh=~apart.fresh)
    found = old_logp(apart.behaviour_logp + 1, later)
    np.testing.assert_array_equal(found, apart.behaviour_logp)
    excluded = old_logp(jnp.full_like(found, -1e30), apart)
    np.testing.assert_array_equal(excluded, apart.behaviour_logp)


def test_the_cap_bounds_the_weight_of_a_token(params):
    """Sampled with half, and with a third, of the policy's own probability: weights 2 and 3."""
    policy = model.make_policy(NARROW)
    _, apart = of_two_programs(policy, rounded(params))
    given = (apart.prompt, apart.prompt_mask, apart.tokens, apart.mask)
    own = token_logp(policy, rounded(params), *given, rule=Rule(1.0))

    def total(ratio, cap):
        batch = dataclasses.replace(apart, sampler_logp=own - math.log(ratio))
        loss = rl_loss(policy, rule=Rule(1.0), max_tokens=T, sampler_cap=cap)
        return float(loss(rounded(params), batch).total)

    plain = total(1, 0.0)
    assert plain != 0
    for ratio, cap, weight in ((2, 0.0, 1), (2, 2.5, 2), (3, 2.5, 2.5), (0.5, 2.5, 0.5)):
        assert total(ratio, cap) == pytest.approx(weight * plain, rel=1e-3), (ratio, cap)


def moved(arch, params, compute=""):
    """The share of weights that an update at a small learning rate changes."""
    policy = model.make_policy(arch, compute=compute)
    batch = batch_of(sampled(policy, params, 0))
    before = jax.tree.map(np.asarray, params)
    optimizer = make_optimizer(lr=1e-6, steps=1)
    loss = rl_loss(policy, rule=Rule(1.0), max_tokens=T)
    state = TrainState(params, optimizer.init(params), jnp.int32(0))
    after = make_update(loss, optimizer, micro_batch=1)(state, batch)[0].params
    changed = jax.tree.map(lambda a, b: np.sum(np.asarray(a) != b), after, before)
    return sum(jax.tree.leaves(changed)) / sum(math.prod(x.shape) for x in jax.tree.leaves(before))


def test_a_small_update_is_not_rounded_away(params):
    copy = jax.tree.map(jnp.copy, params)  # the update donates its state
    assert moved(NARROW, rounded(params)) < 0.1
    assert moved(WIDE, copy, "bfloat16") > 0.9


def test_moments_of_narrow_weights_are_float32_from_the_start(params, tmp_path):
    """One compilation; and a state that was saved goes on bit by bit."""
    policy, optimizer = model.make_policy(NARROW), make_optimizer(lr=0.01, steps=3)
    batch = batch_of(sampled(policy, rounded(params), 0))
    update = make_update(rl_loss(policy, rule=Rule(1.0), max_tokens=T), optimizer, micro_batch=1)

    def start():
        copy = rounded(params)
        return TrainState(copy, optimizer.init(copy), jnp.int32(0))

    before = start()
    dtypes = [x.dtype for x in jax.tree.leaves(before)]
    state = update(before, batch)[0]
    assert [x.dtype for x in jax.tree.leaves(state)] == dtypes
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, state, {})
    state = update(state, batch)[0]
    assert update._cache_size() == 1
    resumed = checkpoints.restore(1, start())[0]
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, update(resumed, batch)[0], state)
    moments = optax.tree.get(state.opt_state, "nu")
    assert {x.dtype for x in jax.tree.leaves(moments)} == {jnp.dtype("float32")}

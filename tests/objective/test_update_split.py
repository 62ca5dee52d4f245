"""A batch that is split, over micro-batches or devices, is the whole: loss and gradient.

Every loss with every reduction it allows. Gradients are compared, not updated
parameters: Adam would hide a wrong scale. Responses differ in length; one row, one
question, and all but one row of another question have nothing to train on.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gccpo_jax.objective.losses import Loss
from gccpo_jax.objective.reductions import REDUCTIONS
from gccpo_jax.objective.update import gradient, group_loss, make_update, rl_loss
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime import sharding
from gccpo_jax.types import TrainState
from tests.helpers import bigram
from tests.helpers.bigram import EMPTY_QUESTION, EMPTY_ROW, LONE_ROW, B, G, T

RULE = Rule(temperature=0.9)
PARAMS = bigram.parameters()
SCALE, LIMIT = 0.1, 11


def ratio_loss(loss, reduction, **options):
    return rl_loss(
        bigram.POLICY, rule=RULE, loss=loss, reduction=reduction, max_tokens=LIMIT, **options
    )


OBJECTIVES = {
    **{("ppo", r): ratio_loss("ppo", r, beta=0.1) for r in REDUCTIONS},
    **{("cispo", r): ratio_loss("cispo", r, beta=0.1, kl="k3_k2") for r in REDUCTIONS},
    **{
        (loss, "seq_mean_token_mean"): ratio_loss(
            loss, "seq_mean_token_mean", clip_low=0.1, clip_high=0.15
        )
        for loss in ("gspo", "gspo_token")
    },
    ("gvpo", "groups"): group_loss(bigram.POLICY, rule=RULE, scale=SCALE),
    ("ppo with a bonus", "token_mean"): ratio_loss(
        "ppo", "token_mean", beta=0.1, kl_correction=True, entropy_bonus=0.1
    ),
}


@functools.cache
def program(micro_batch):
    """`gradient` of every objective, compiled once; sharded arguments compile it anew."""

    def every(params, batch):
        return {name: gradient(fn, params, batch, micro_batch) for name, fn in OBJECTIVES.items()}

    return jax.jit(every)


@pytest.fixture(scope="module")
def whole():
    return program(B)(PARAMS, bigram.batch())


def assert_equal(found, wanted, tolerance=1e-6):
    """Gradients within `tolerance` of their norm, every field of the `Loss` relative to itself."""
    for name, (gradients, loss) in wanted.items():
        ours, theirs = found[name]
        for ours_leaf, leaf in zip(*map(jax.tree.leaves, (ours, gradients)), strict=True):
            size = float(optax.tree.norm(gradients))
            assert size > 1e-3, name
            apart = np.linalg.norm(np.asarray(ours_leaf) - np.asarray(leaf))
            assert apart <= tolerance * size, (name, apart / size)
        for field, value in vars(loss).items():
            if value is None:
                continue
            got = float(getattr(theirs, field))
            assert got == pytest.approx(float(value), rel=5e-6, abs=1e-6), (name, field)


def test_the_batch_has_what_a_split_could_get_wrong(whole):
    mask = np.asarray(bigram.batch().mask)
    rows = mask.any(-1)
    assert not rows[EMPTY_QUESTION].any() and not rows[EMPTY_ROW] and rows[LONE_ROW].sum() == 1
    lengths = mask.sum(-1)
    assert len(set(lengths[rows].tolist())) > 4
    assert float(whole["gvpo", "groups"][1].denominator) == B - 2
    for name in OBJECTIVES:
        if name[0] != "gvpo":
            loss = whole[name][1]
            assert 0.1 < loss.clipped / loss.tokens < 0.9, name


@pytest.mark.parametrize("micro_batch", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_micro_batches_are_the_whole_batch(whole, micro_batch):
    assert_equal(program(micro_batch)(PARAMS, bigram.batch()), whole)


@pytest.mark.parametrize(
    ("data", "fsdp", "tensor", "micro_batch"),
    [(8, 1, 1, B), (2, 2, 2, 8), pytest.param(8, 1, 1, 8, marks=pytest.mark.slow)],
)
def test_eight_devices_are_one(whole, data, fsdp, tensor, micro_batch):
    """At once and in micro-batches; with the parameters split as well."""
    mesh = sharding.make_mesh(data, fsdp, tensor)
    params = jax.device_put(PARAMS, bigram.shardings(mesh))
    batch = sharding.put_batch(mesh, bigram.batch())
    assert len(batch.tokens.sharding.device_set) == 8
    assert_equal(program(micro_batch)(params, batch), whole)


def test_the_order_of_questions_and_of_rows_changes_nothing(whole):
    batch = bigram.batch()
    random = np.random.default_rng(2)
    questions, rows = random.permutation(B), random.permutation(G)
    prompts = {name: getattr(batch, name)[questions] for name in ("prompt", "prompt_mask")}
    given = {k: v for k, v in vars(batch).items() if k not in prompts and v is not None}
    rest = {k: v[questions][:, rows] for k, v in given.items()}
    assert_equal(program(B)(PARAMS, type(batch)(**prompts, **rest)), whole)


@jax.jit
def logp_of(params, batch):
    return token_logp(
        bigram.POLICY, params, batch.prompt, batch.prompt_mask, batch.tokens, batch.mask, rule=RULE
    )


def pulls(batch):
    """What -d loss / d log pi of each token [B, G, T] is on-policy, in plain loops."""
    mask, advantage = np.asarray(batch.mask), np.asarray(batch.advantage, np.float64)
    reward = np.asarray(batch.reward, np.float64)
    lengths = mask.sum(-1)
    rows = (lengths > 0).sum()
    out = {}
    for name in OBJECTIVES:
        loss, reduction = name
        pull = np.zeros((B, G, T))
        for b, g, t in np.argwhere(mask):
            a = advantage[b, g, t]
            if loss == "gspo":
                a = advantage[b, g, : lengths[b, g]].mean()
            if loss == "gvpo":
                used = [i for i in range(G) if lengths[b, i]]
                centred = reward[b, g] - np.mean(reward[b, used])
                groups = sum((n > 0).sum() > 1 for n in lengths)
                pull[b, g, t] = SCALE * centred / max(len(used) - 1, 1) / groups
            elif reduction == "token_mean":
                pull[b, g, t] = a / mask.sum()
            elif reduction == "seq_mean_token_mean":
                pull[b, g, t] = a / lengths[b, g] / rows
            elif reduction == "seq_mean_token_sum":
                pull[b, g, t] = a / rows
            else:
                pull[b, g, t] = a / rows / LIMIT
        out[name] = pull
    return out


def test_on_policy_every_update_is_reinforce():
    """Nothing pulls towards a reference that is the policy; the bonus is not of this law."""
    batch = bigram.batch()
    logp = logp_of(PARAMS, batch)
    batch = dataclasses.replace(batch, behaviour_logp=logp, reference_logp=logp)
    found = program(B)(PARAMS, batch)
    _, pull_back = jax.vjp(lambda params: logp_of(params, batch), PARAMS)
    wanted = {
        name: (pull_back(jnp.asarray(-pull, jnp.float32))[0], found[name][1])
        for name, pull in pulls(batch).items()
        if name[0] != "ppo with a bonus"
    }
    assert_equal(found, wanted, tolerance=3e-6)


@pytest.mark.slow
def test_a_model_on_a_mesh_moves_as_on_one_device():
    """Gradient descent on the package's model, its parameters and state laid out by its axes."""
    arch = Arch(vocab_size=8, width=8, depth=1, heads=2, kv_heads=2, head_dim=4, mlp_width=8)
    policy = model.make_policy(arch)
    loss = rl_loss(policy, rule=RULE, reduction="seq_mean_token_mean", beta=0.1)
    start = jax.tree.map(np.asarray, jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0)))
    optimizer = optax.sgd(1.0)

    def moved(mesh):
        params = sharding.parameter_shardings(mesh, model.abstract(arch), model.logical_axes(arch))
        places = TrainState(params, optimizer.init(start), sharding.replicated(mesh))
        state = TrainState(jax.device_put(start, params), optimizer.init(start), jnp.int32(0))
        update = make_update(loss, optimizer, micro_batch=8, shardings=places)
        state, metrics = update(state, sharding.put_batch(mesh, bigram.batch()))
        return jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, start), metrics

    one, wanted = moved(sharding.make_mesh())
    many, found = moved(sharding.make_mesh(data=2, fsdp=2, tensor=2))
    size = float(wanted["grad_norm"])
    assert size > 0.01
    for ours, theirs in zip(*map(jax.tree.leaves, (many, one)), strict=True):
        assert np.linalg.norm(ours - theirs) <= 2e-6 * size
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(float(value), rel=5e-6), name


def test_a_micro_batch_has_questions_of_every_device():
    """Neither questions nor their gradients move between devices but in one last sum."""
    mesh = sharding.make_mesh(data=2)

    def loss(params, batch):
        total = jnp.sum(params[None, None] * batch.reward)
        return Loss(total, jnp.float32(1), *(jnp.float32(0) for _ in range(5)))

    batch = sharding.put_batch(mesh, bigram.batch())
    run = jax.jit(lambda params, batch: gradient(loss, params, batch, B // 2))
    text = run.lower(jnp.float32(1), batch).compile().as_text()
    assert not any(f" {name}(" in text for name in ("all-gather", "all-to-all"))
    mean = jnp.sum(batch.reward) / 2  # each micro-batch has denominator 1
    np.testing.assert_allclose(run(jnp.float32(1), batch)[0], mean, rtol=1e-5)

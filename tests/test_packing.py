"""Responses laid end to end: the same log-probabilities and gradients, without the padding."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import model
from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.law import Rule
from gccpo_jax.logprobs import token_logp, token_logp_and_entropy
from gccpo_jax.packing import into_rows
from gccpo_jax.sft import fine_tune

ARCH = model.Arch(
    23, width=16, depth=2, heads=4, kv_heads=2, head_dim=4, mlp_width=24, qkv_bias=True
)
B, G, S, T = 2, 5, 6, 9
LENGTHS = np.array([[0, 3, T, 1, 4], [2, 2, 2, 2, 3]])
SHORT = np.array([[2, 2, 2, 2, 1], [3, 1, 0, 2, 1]])
RULE = Rule(temperature=0.8)


def first_fit(lengths, width):
    """Row of each response, as a loop."""
    rows, used = {}, [0] * len(lengths)
    for g in sorted(range(len(lengths)), key=lambda g: -lengths[g]):
        rows[g] = next(r for r, n in enumerate(used) if n + lengths[g] <= width)
        used[rows[g]] += lengths[g]
    return [rows[g] for g in range(len(lengths))]


@pytest.mark.parametrize("lengths", [[0, 2, 8, 0, 3], [1, 1, 1, 1, 2], [8] * 5, [0] * 5, [5, 3, 4]])
def test_every_token_has_one_place_in_the_first_row_with_room(lengths):
    width, group = 8, len(lengths)
    rows = into_rows(jnp.array(lengths), width)
    inside = np.arange(width) < np.array(lengths)[:, None]
    places = np.asarray(rows.place)[inside]
    assert len(set(places)) == sum(lengths) and (places < group * width).all()
    assert (np.asarray(rows.place)[~inside] == group * width).all()
    for g, row in enumerate(first_fit(lengths, width)):
        own = np.asarray(rows.place[g])[: lengths[g]]
        assert (own // width == row).all() and (np.diff(own) == 1).all()
    value = jnp.arange(1.0, group * width + 1).reshape(group, width)
    np.testing.assert_array_equal(rows.take(rows.lay(value)), np.where(inside, value, 0))
    of = np.where(inside, np.arange(1, group + 1)[:, None], 0)
    np.testing.assert_array_equal(rows.take(rows.response), of)
    assert (np.asarray(rows.response) > 0).sum() == sum(lengths)


def batch(lengths):
    random = np.random.default_rng(0)
    prompt, tokens = (jnp.asarray(random.integers(0, 23, s)) for s in ((B, S), (B, G, T)))
    prompt_mask = jnp.asarray(np.arange(S) < np.array([[4], [6]]))
    return prompt, prompt_mask, tokens, jnp.asarray(np.arange(T) < lengths[..., None])


def policy_and_params():
    params = model.init(ARCH, jax.random.key(1))
    bias = jax.random.normal(jax.random.key(2), params["layers"]["k_bias"].shape)
    return model.make_policy(ARCH), params | {"layers": params["layers"] | {"k_bias": bias}}


@partial(jax.jit, static_argnums=2)
@partial(jax.grad, has_aux=True)
def weighted(params, inputs, rows):
    found = token_logp_and_entropy(
        model.make_policy(ARCH), params, *inputs, rule=RULE, chunk=7, rows=rows
    )
    weight = jax.random.normal(jax.random.key(3), (2, B, G, T))
    return jnp.sum(weight[0] * found[0] + weight[1] * found[1]), found


@pytest.mark.parametrize(
    ("rows", "lengths"), [(1, LENGTHS), (2, LENGTHS), (2, SHORT), (G, np.full((B, G), T))]
)
def test_values_and_gradients_are_those_of_padded_rows(lengths, rows):
    params, inputs = policy_and_params()[1], batch(lengths)
    (grads, found), (wanted_grads, wanted) = (weighted(params, inputs, n) for n in (rows, 0))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)
    assert np.abs(wanted[0]).max() > 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), grads, wanted_grads)


@pytest.mark.parametrize(("lengths", "passes"), [(LENGTHS, 2), (SHORT, 1), (0 * SHORT, 0)])
def test_passes_without_a_token_are_not_computed(lengths, passes):
    policy, params = policy_and_params()
    calls = []

    def encode(params, tokens, positions, mask, past):
        jax.debug.callback(lambda _: calls.append(1), tokens)
        return policy.encode(params, tokens, positions, mask, past)

    counting = dataclasses.replace(policy, encode=encode)
    run = jax.jit(partial(token_logp, counting, rule=RULE, rows=1))
    jax.block_until_ready(run(params, *batch(lengths)))
    jax.effects_barrier()
    assert len(calls) == B + B * passes, "a prompt each, and a row each of every pass"


def test_rows_beyond_the_group_and_demonstrations_are_refused(tmp_path):
    config = default()
    config.optim.packed_rows = config.group_size + 1
    with pytest.raises(UserError, match="packed_rows = .*at most group_size"):
        freeze(config)
    config.optim.packed_rows = 1
    with pytest.raises(UserError, match="packed_rows = 1: .*demonstration"):
        fine_tune(freeze(config), "test", tmp_path)

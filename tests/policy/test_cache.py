"""The unrolled decoder is `encode`, one token at a time, for every family and dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.cache import put
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.ring_queue import sampler
from gccpo_jax.types import Prompts

B, G, S, T, V = 2, 3, 6, 9, 40
FAMILIES = {
    "llama": {},
    "biases": {"qkv_bias": True, "out_bias": True},
    "norms": {"qk_norm": True},
    "untied": {"tied": False},
}


def drawn(arch, slots):
    policy, params = model.make_policy(arch), model.init(arch, jax.random.key(0))
    # Biases and scales that do something.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    params = tree.unflatten([x.astype(arch.dtype) for x in moved])
    tokens = jax.random.randint(jax.random.key(1), (B, S), 1, V)
    mask = jnp.arange(S)[None] < jnp.array([S, S - 2])[:, None]
    prompts = Prompts(tokens, mask, jnp.arange(B, dtype=jnp.uint32))
    keys = noise.question_keys(jax.random.key(3), 0, prompts.ids)
    stop = jnp.zeros(V, bool).at[7].set(True)
    rule = Rule(1.0)
    _, rollout = sampler(slots)(
        policy, params, prompts, keys, stop, group=G, rule=rule, max_tokens=T
    )
    inside = jnp.arange(T)[None, None] < rollout.length[..., None]
    again = token_logp(policy, params, tokens, mask, rollout.tokens, inside, rule=rule)
    return rollout, np.where(inside, again, 0.0)


@pytest.mark.parametrize("slots", [0, 2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_of_sampling_are_those_of_reading(family, dtype, slots):
    arch = Arch(V, 32, 2, 4, 2, 8, 48, dtype=dtype, **FAMILIES[family])
    rollout, again = drawn(arch, slots)
    assert rollout.segment.k.dtype == dtype
    close = 2e-6 if dtype == "float32" else 0.1
    np.testing.assert_allclose(rollout.logp, again, atol=close, rtol=0)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_a_token_is_written_in_all_rows_at_one_slot(rows, axes):
    """What `vmap` says of the caches or of the new values, and never of the slot."""
    shapes = (2, T, 4), (2, 1, 4)  # a layer's keys, one token's
    cache, new = (
        jax.random.normal(jax.random.key(n), shape if axis is None else (rows, *shape))
        for n, (shape, axis) in enumerate(zip(shapes, axes, strict=True))
    )
    found = jax.vmap(put, (*axes, None))(cache, new, jnp.int32(5))
    wanted = np.broadcast_to(cache, (rows, *shapes[0])).copy()
    wanted[:, :, 5] = np.broadcast_to(new, (rows, *shapes[1]))[:, :, 0]
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="slot differs between them"):
        jax.vmap(put, (*axes, 0))(cache, new, jnp.arange(rows))

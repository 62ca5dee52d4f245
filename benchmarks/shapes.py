"""The model shapes that benchmarks run, with random weights: time does not depend on them."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.types import Spans

SHAPES = {
    "tiny": Arch(136, 128, 3, 4, 4, 32, 384),
    "smollm2": Arch(49152, 576, 30, 9, 3, 64, 1536, rope_theta=100000.0),
    "qwen2_5_1_5b": Arch(151936, 1536, 28, 12, 2, 128, 8960, rope_theta=1e6, qkv_bias=True),
}


def matmul_flops(arch: Arch, tokens: int, read: int) -> int:
    """Of encoding `tokens` and making logits for `read` of them; attention is left out."""
    leaves = model.layout(arch)
    layers = sum(math.prod(leaf.shape) for name, leaf in leaves.items() if "layers/" in name)
    return 2 * (layers * tokens + arch.vocab_size * arch.width * read)


def filled(shapes: Any, vocab_size: int, response: int) -> Any:
    """Arrays of these shapes that make every stage work to its limit: tokens 1, nothing masked.

    Flags of the length of the vocabulary say which tokens end a text: none. Steps part the
    response evenly.
    """

    def one(shape: Any) -> Any:
        if isinstance(shape, Spans):
            count = shape.mask.shape[-1]
            ends = jnp.arange(count + 1, dtype=jnp.int32) * response // count
            start, end = (jnp.broadcast_to(x, shape.mask.shape) for x in (ends[:-1], ends[1:]))
            return Spans(start, end, jnp.ones(shape.mask.shape, bool))
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0), shape.shape)
        if jnp.issubdtype(shape.dtype, jnp.floating):
            return 0.02 * jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
        ends = shape.dtype == bool and shape.shape == (vocab_size,)
        return jnp.zeros(shape.shape, bool) if ends else jnp.ones(shape.shape, shape.dtype)

    return jax.tree.map(one, shapes, is_leaf=lambda x: isinstance(x, Spans))

"""The model shapes that benchmarks run, with random weights: time does not depend on them."""

import math

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch

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

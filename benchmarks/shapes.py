"""The model shapes that benchmarks run, with random weights: time does not depend on them."""

from gccpo_jax.arch import Arch

SHAPES = {
    "tiny": Arch(136, 128, 3, 4, 4, 32, 384),
    "smollm2": Arch(49152, 576, 30, 9, 3, 64, 1536, rope_theta=100000.0),
    "qwen2_5_1_5b": Arch(
        151936, 1536, 28, 12, 2, 128, 8960, rope_theta=1e6, qkv_bias=True, dtype="bfloat16"
    ),
}

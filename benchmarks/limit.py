"""Contestant: what the machine can do at best, a large matrix product or a large copy.

python benchmarks/limit.py matmul|copy
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
from entrant import serve

SIDE = 2048
FLOPS = 2 * SIDE**3  # of one product
BYTES = 2 * 2**28  # read and written by one copy

if __name__ == "__main__":
    if sys.argv[1] == "matmul":
        x = jnp.ones((SIDE, SIDE), jnp.float32)
        work = jax.jit(lambda x: x @ x)
    else:
        x = jnp.ones(2**26, jnp.float32)
        work = jax.jit(lambda x: x + 1)
    serve(lambda: jax.block_until_ready(work(x)))

"""The cheapest policy that the update can train: the next token depends on the last one and on
its position, nothing else, so a program with every objective compiles in seconds."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gccpo_jax.types import Array, Context, Params, Policy, Segment, UpdateBatch

V = 8  # vocabulary; divides over a tensor axis
B, G, T, S = 16, 4, 8, 4
EMPTY_QUESTION, EMPTY_ROW, LONE_ROW = 3, (5, 1), 9
"""A question without a row that trains, a row that does not, a question with one row only."""


def _encode(
    params: Params, tokens: Array, positions: Array, mask: Array, past: Context
) -> tuple[Array, Segment]:
    nothing = jnp.zeros((1, 1, tokens.shape[0], 1))
    phase = jnp.cos(positions.astype(jnp.float32))[:, None]
    return params["after"][tokens] + phase * params["place"][None], Segment(nothing, nothing, mask)


POLICY = Policy(encode=_encode, logits=lambda params, hidden: hidden, vocab_size=V)
SPECS = {"after": PartitionSpec("fsdp", "tensor"), "place": PartitionSpec("tensor")}


def parameters() -> Params:
    random = np.random.default_rng(1)
    sizes = {"after": (V, V), "place": (V,)}
    return {k: jnp.asarray(random.normal(0, 1, s), jnp.float32) for k, s in sizes.items()}


def shardings(mesh: Mesh) -> dict[str, NamedSharding]:
    """Of the parameters: rows over fsdp, the vocabulary over tensor."""
    return {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}


def batch(seed: int = 0) -> UpdateBatch:
    """Responses of 1 to T random tokens, off-policy; see EMPTY_QUESTION for what is masked."""
    random = np.random.default_rng(seed)
    length = random.integers(1, T + 1, (B, G))
    length[EMPTY_QUESTION], length[EMPTY_ROW], length[LONE_ROW, 1:] = 0, 0, 0

    def logp() -> Array:
        return jnp.asarray(random.normal(-2, 0.5, (B, G, T)), jnp.float32)

    return UpdateBatch(
        prompt=jnp.asarray(random.integers(0, V, (B, S)), jnp.int32),
        prompt_mask=jnp.asarray(np.arange(S) < random.integers(1, S + 1, (B, 1))),
        tokens=jnp.asarray(random.integers(0, V, (B, G, T)), jnp.int32),
        mask=jnp.asarray(np.arange(T) < length[..., None]),
        behaviour_logp=logp(),
        reference_logp=logp(),
        advantage=jnp.asarray(random.normal(0, 1, (B, G, T)), jnp.float32),
        reward=jnp.asarray(random.normal(0, 1, (B, G)), jnp.float32),
    )

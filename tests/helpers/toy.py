"""A policy with known probabilities that keeps everything it knows in the cache.

    logits of the token after x_0..x_s = last[x_s] + sum_{j <= s} sum_l at[l, j] of[l, x_j]

The sum runs over the tokens that can be seen: a segment holds `at` (a position
code) as keys and `of` (a token code) as values, and the past is read from there
alone. So prefix masks, branches, positions and edited caches change the law, and
the law of any text is a few lines of NumPy. All numbers are multiples of 1/8 or
1/16, hence sums are exact in float32 whatever their order, and two ways to one
text must give equal logits bit by bit.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from gccpo_jax.types import Array, Context, Params, Policy, Prompts, Segment

V = 6
STOP = 0
BOUNDARY = 1
LAYERS = 2
POSITIONS = 64


def _parameters() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    grid = lambda size, scale: np.round(random.normal(0, scale, size) * 16) / 16  # noqa: E731
    return {
        "last": grid((V, V), 0.8),
        "at": np.round(random.uniform(-1, 1, (LAYERS, POSITIONS)) * 8) / 8,
        "of": grid((LAYERS, V, V), 0.7),
    }


NUMPY_PARAMS = _parameters()
PARAMS: Params = {name: jnp.asarray(x, jnp.float32) for name, x in NUMPY_PARAMS.items()}
IS_STOP = jnp.arange(V) == STOP


def _encode(
    params: Params, tokens: Array, positions: Array, mask: Array, past: Context
) -> tuple[Array, Segment]:
    code = jnp.take(params["at"], positions, axis=1, mode="clip")  # [L, S]
    values = params["of"][:, tokens][:, None]  # [L, 1, S, V]
    keys = jnp.broadcast_to(code[:, None, :, None], values.shape)
    own = Segment(keys, values, mask)
    seen = sum((_read(segment).sum(0) for segment in past), jnp.zeros(V))
    seen = seen[None] + jnp.cumsum(_read(own), axis=0)
    return params["last"][tokens] + seen, own


def _read(segment: Segment) -> Array:
    """What each token of a segment adds to the logits of later ones: [S, V]."""
    added = jnp.sum(segment.k * segment.v, axis=(0, 1))
    return jnp.where(segment.mask[:, None], added, 0.0)


POLICY = Policy(encode=_encode, logits=lambda params, hidden: hidden, vocab_size=V)


def next_logits(text: list[int]) -> np.ndarray:
    """Logits [V] after a text, in float64."""
    p = NUMPY_PARAMS
    out = p["last"][text[-1]].copy()
    for position, token in enumerate(text):
        for layer in range(LAYERS):
            out += p["at"][layer, position] * p["of"][layer, token]
    return out


PROMPTS = [[2, 3, 1], [5], [4, 4, 2, 3], [3, 5]]


def prompts(rows: list[int], width: int = 4) -> Prompts:
    """A batch of the questions `rows`, right-padded to `width`; padding holds nonsense."""
    tokens = np.full((len(rows), width), 5, np.int32)
    mask = np.zeros((len(rows), width), bool)
    for b, row in enumerate(rows):
        tokens[b, : len(PROMPTS[row])] = PROMPTS[row]
        mask[b, : len(PROMPTS[row])] = True
    ids = np.array(rows, np.uint32) + 100
    return Prompts(jnp.asarray(tokens), jnp.asarray(mask), jnp.asarray(ids))

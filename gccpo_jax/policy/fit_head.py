"""A head of two classes on fixed hidden states, trained on soft labels.

    loss = mean_n -[v log p + (1 - v) log(1 - p)] + invariance * mean_b MMD^2(p | bin b, p | rest)

p = softmax(W_2 relu(W_1 h + b_1) + b_2)[1], Qwen2.5-Math-PRM's network. The penalty (arXiv
2501.09620) asks that the scores of one bin of a spurious attribute, such as the length of a step,
are distributed as those of the others: with it the attribute alone moves no score.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gccpo_jax.types import Array

BANDWIDTH = 0.2
"""Of the Gaussian kernel of the penalty, in probability."""
_ROWS = 256  # of a mini-batch

Layers = tuple[tuple[Array, Array], ...]


def fit_head(
    hidden: np.ndarray,
    target: np.ndarray,
    *,
    seed: int = 0,
    updates: int = 1000,
    lr: float = 1e-3,
    bins: np.ndarray | None = None,
    invariance: float = 0.0,
) -> Layers:
    """Layers ((W_1, b_1), (W_2, b_2)) for `step_scorer.StepScorer`; weights [outputs, inputs].

    Args:
      hidden: [N, M]. target: [N] in [0, 1]. updates of AdamW on mini-batches of 256, lr falling
      along a cosine. bins: [N] int, of the attribute. invariance: weight of the penalty, >= 0.
    """
    width = hidden.shape[1]
    first, second = jax.random.split(jax.random.key(seed))
    scale = 1.0 / np.sqrt(width)
    layers = (
        (jax.random.normal(first, (width, width)) * scale, jnp.zeros(width)),
        (jax.random.normal(second, (2, width)) * scale, jnp.zeros(2)),
    )
    optimizer = optax.adamw(optax.cosine_decay_schedule(lr, updates), weight_decay=1e-2)
    bins = np.zeros(len(hidden), np.int32) if bins is None else bins
    rows = [jnp.asarray(x) for x in (np.float32(hidden), np.float32(target), bins)]
    fit = partial(_fit, optimizer, updates, invariance, int(bins.max()) + 1)
    return fit(layers, jax.random.key(seed + 1), *rows)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _fit(
    optimizer: optax.GradientTransformation,
    updates: int,
    invariance: float,
    count: int,
    layers: Layers,
    key: Array,
    hidden: Array,
    target: Array,
    bins: Array,
) -> Layers:
    def loss(layers: Layers, rows: Array) -> Array:
        logits = scores(layers, hidden[rows])
        law = jax.nn.log_softmax(logits)
        entropy = -jnp.mean(target[rows] * law[:, 1] + (1 - target[rows]) * law[:, 0])
        if not invariance:
            return entropy
        return entropy + invariance * bin_mmd(jnp.exp(law[:, 1]), bins[rows], count)

    def update(state: tuple, key: Array) -> tuple[tuple, None]:
        layers, moments = state
        rows = jax.random.randint(key, (_ROWS,), 0, hidden.shape[0])
        change, moments = optimizer.update(jax.grad(loss)(layers, rows), moments, layers)
        return (optax.apply_updates(layers, change), moments), None

    state = layers, optimizer.init(layers)
    return jax.lax.scan(update, state, jax.random.split(key, updates))[0][0]


def scores(layers: Layers, hidden: Array) -> Array:
    """Logits [..., 2] of bad and good, for hidden states [..., M]."""
    x = hidden
    for n, (matrix, bias) in enumerate(layers):
        x = jax.nn.relu(x) if n else x
        x = jnp.einsum("...m,om->...o", x, matrix)
        x = x + jnp.broadcast_to(bias, x.shape)
    return x


def bin_mmd(score: Array, bins: Array, count: int) -> Array:
    """Mean over bins of the squared MMD [] between the scores in the bin and all others.

        MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k = exp(-(x - y)^2 / 2 s^2)

    The plain (V-statistic) estimate, >= 0; a bin that is empty or has all scores counts 0.

    Args: score [N]; bins [N] int in [0, count).
    Example: scores (0, 0, 1, 1) in bins (0, 1, 0, 1) give 0.
    """
    kernel = jnp.exp(-((score[:, None] - score[None]) ** 2) / (2 * BANDWIDTH**2))

    def one(bin_: Array) -> Array:
        inside = (bins == bin_).astype(score.dtype)
        mine, others = inside / jnp.maximum(inside.sum(), 1), 1 - inside
        rest = others / jnp.maximum(others.sum(), 1)
        apart = mine - rest
        both = (inside.sum() > 0) & (others.sum() > 0)
        return jnp.where(both, apart @ kernel @ apart, 0.0)

    return jnp.mean(jax.vmap(one)(jnp.arange(count)))

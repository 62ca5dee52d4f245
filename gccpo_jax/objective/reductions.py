"""Reduces per-token values to a numerator and a denominator, in four ways."""

from __future__ import annotations

import jax.numpy as jnp

from gccpo_jax.config.sections import REDUCTIONS
from gccpo_jax.masked import masked_sum, safe_divide
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array


@shaped(x="N T", mask="N T")
def reduce_tokens(
    x: Array, mask: Array, reduction: str, max_tokens: int | None = None
) -> tuple[Array, Array]:
    """Numerator and denominator of a reduction of x [N, T] over tokens in `mask`.

    token_mean               sum x / number of tokens                     (DAPO)
    seq_mean_token_mean      mean over rows of the row's token mean       (GRPO, GSPO)
    seq_mean_token_sum       mean over rows of the row's token sum        (RLOO)
    seq_mean_token_sum_norm  sum x / (rows * max_tokens), a constant      (Dr.GRPO)

    Rows without a token leave the numerator and the count of rows.

    Raises:
      ValueError: another reduction, or the last without `max_tokens`.
    """
    rows = jnp.sum(jnp.any(mask, axis=-1), dtype=jnp.float32)
    if reduction == "token_mean":
        return masked_sum(x, mask), jnp.sum(mask, dtype=jnp.float32)
    if reduction == "seq_mean_token_mean":
        count = jnp.sum(mask, axis=-1, dtype=jnp.float32)
        return jnp.sum(safe_divide(masked_sum(x, mask, axis=-1), count)), rows
    if reduction == "seq_mean_token_sum":
        return masked_sum(x, mask), rows
    if reduction == "seq_mean_token_sum_norm" and max_tokens:
        return masked_sum(x, mask), rows * max_tokens
    raise ValueError(
        f"reduction {reduction!r} with max_tokens {max_tokens}: choose one of "
        f"{', '.join(REDUCTIONS)}; the last needs max_tokens > 0"
    )

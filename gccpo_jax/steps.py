"""Steps of a trajectory: token ranges, and the macro-steps between read boundaries."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.types import Array, Spans


def find_steps(
    is_boundary: Array, length: Array, *, max_steps: int, min_tokens: int = 1, max_tokens: int = 0
) -> Spans:
    """Cuts one trajectory into steps.

    A step ends with a boundary token once it has `min_tokens` tokens, after
    `max_tokens` tokens (forced split; 0 never), and at the end of the response. A
    rest shorter than `min_tokens` at the end joins the step before it, and what
    comes after step `max_steps` - 1 joins the last step.

    Args:
      is_boundary: [T] bool, tokens that may end a step.
      length: [] number of response tokens, in [0, T].
      max_steps: E, static size of the result.
    Returns:
      Spans [E] that partition [0, length).
    """
    size = is_boundary.shape[0]
    limit = max_tokens if max_tokens > 0 else size + 1

    def scan(open_tokens: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        t, boundary = inputs
        count = open_tokens + 1
        closes = (boundary & (count >= min_tokens)) | (count >= limit)
        closes = closes & (t < length)
        return jnp.where(closes, 0, count), closes

    positions = jnp.arange(size)
    _, closes = jax.lax.scan(scan, jnp.int32(0), (positions, is_boundary))
    last_close = jnp.max(jnp.where(closes, positions, -1))
    rest = length - 1 - last_close
    joins = (rest > 0) & (rest < min_tokens) & (last_close >= 0)
    closes = closes & ~(joins & (positions == last_close))
    closes = closes | (positions == length - 1)
    return _spans_from_ends(closes, length, max_steps)


def _spans_from_ends(closes: Array, length: Array, max_steps: int) -> Spans:
    """Spans whose ends are the marked tokens; the last kept span is stretched to `length`."""
    size = closes.shape[0]
    ends = jnp.sort(jnp.where(closes, jnp.arange(size) + 1, size + 1))[:max_steps]
    ends = jnp.pad(ends, (0, max_steps - ends.shape[0]), constant_values=size + 1)
    mask = ends <= size
    count = jnp.sum(mask)
    ends = jnp.where(jnp.arange(max_steps) == count - 1, length, ends)
    ends = jnp.where(mask, ends, length).astype(jnp.int32)
    start = jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]])
    return Spans(start=jnp.where(mask, start, length).astype(jnp.int32), end=ends, mask=mask)


def read_boundaries(key: Array, spans: Spans, count: int, share: float) -> Array:
    """Which steps end a macro-step: a coin after every step, up to `count`, and the end.

    Whether Phi is read after a step depends on the key and on the steps before it alone. A
    choice that looks ahead ("the one before the answer always") would make the baseline
    depend on the action, and bias the gradient.

    Args:
      key: of the trajectory; consumed. share: chance of a step, in (0, 1]; 1 reads the first
        `count`.
    Returns:
      [E] bool, True at the steps whose end is read, and at the last step.
    """
    index = jnp.arange(spans.mask.shape[0])
    coins = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(key, k)))(index) < share
    drawn = coins & (jnp.cumsum(coins) <= count)
    last = index == jnp.sum(spans.mask) - 1
    return (drawn & spans.mask) | last


def merge_steps(spans: Spans, keep: Array, max_steps: int) -> Spans:
    """Macro-steps [max_steps]: each runs to the next kept end. Keeps at most `max_steps`.

    Args:
      spans: steps [E]. keep: [E] bool, ends that stay; the last existing step's must be kept.
    """
    rows = jnp.pad(spans.mask & keep, (0, max(0, max_steps - keep.shape[0])))
    order = jnp.argsort(~rows, stable=True)[:max_steps]  # kept ends first, in their order
    mask = rows[order]
    total = jnp.max(jnp.where(spans.mask, spans.end, 0))
    end = jnp.where(mask, spans.end[order], total).astype(jnp.int32)
    start = jnp.concatenate([jnp.zeros(1, jnp.int32), end[:-1]])
    return Spans(start=jnp.where(mask, start, total).astype(jnp.int32), end=end, mask=mask)


def step_of_token(spans: Spans, size: int) -> Array:
    """[T] int32: the step each token belongs to; E for tokens after the last step."""
    position = jnp.arange(size)[:, None]
    inside = (position >= spans.start[None]) & (position < spans.end[None]) & spans.mask[None]
    index = jnp.argmax(inside, axis=1)
    return jnp.where(jnp.any(inside, axis=1), index, spans.mask.shape[0]).astype(jnp.int32)

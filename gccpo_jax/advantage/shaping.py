"""Rewards made from the outcome and what else is known of the trajectory: length, entropy.

Shaped rewards go into a baseline (`baselines.py`) like outcomes. No gradient flows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.advantage.baselines import RIGHT, group_zscore, has_contrast
from gccpo_jax.masked import masked_mean, masked_sum, safe_divide
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array

ROUNDING = 1e-6
"""Entropy rewards that differ by less, relatively, differ by float32 rounding only."""


def soft_overlong(length: Array, *, limit: int, buffer: int) -> Array:
    """DAPO's punishment [...] of long responses, to be added to the outcome; in [-1, 0].

        0 up to limit - buffer;  ((limit - buffer) - L) / buffer up to limit;  -1 above

    Args:
      length: [...] tokens L. limit: L_max. buffer: L_c > 0, tokens over which it falls.
    Example, limit 20480, buffer 4096: 16384 gives 0, 18432 -.5, 20480 and 20481 -1
      (arXiv 2503.14476, eq. 13; verl's and Tunix's have no floor).
    """
    over = (limit - buffer) - length.astype(jnp.float32)
    return jnp.clip(over / buffer, -1.0, 0.0)


@shaped(outcome="G", length="G", finished="G", where="G")
def length_penalised(
    outcome: Array, length: Array, finished: Array, where: Array, *, alpha: float
) -> Array:
    """Rewards [G] in which a shorter right response is worth more than a longer one.

        R = o (1 - alpha sigmoid((L - mean L) / (std L + 1e-7)))  where right,  o where wrong

    Mean and population deviation of L are over the right and finished responses of the
    group. An unfinished response gets 0. With alpha < 1 every right one stays above
    every wrong one (of outcome 0). arXiv 2502.04463. A z-score afterwards would blow up
    tiny differences of length: use "leave_one_out" or "mean".

    Args:
      outcome: [G] in [0, 1], right above 1/2. length: [G] tokens. finished, where: [G]
      bool. alpha: in [0, 1).
    Example: right lengths (100, 200, 300), alpha .1: (.977290, .95, .922710).
    """
    right = where & finished & (outcome > RIGHT)
    z = group_zscore(length.astype(jnp.float32), right, ddof=0, epsilon=1e-7)
    factor = jnp.where(right, 1.0 - alpha * jax.nn.sigmoid(z), 1.0)
    return jnp.where(where & finished, outcome * factor, 0.0)


@shaped(outcome="G", length="G", finished="G")
def cosine_length(
    outcome: Array,
    length: Array,
    finished: Array,
    *,
    limit: int,
    right: tuple[float, float] = (2.0, 1.0),
    wrong: tuple[float, float] = (-10.0, 0.0),
    exceed: float = -10.0,
) -> Array:
    """Rewards [G] along a cosine of length: short if right, and long rather than short if wrong.

        r = r_L + (r_0 - r_L) (1 + cos(pi L / L_max)) / 2,   `exceed` where unfinished

    with (r_0, r_L) = `right` or `wrong`; an outcome between is their mixture. Yeo et al.,
    arXiv 2502.03373; its defaults.

    Args:
      outcome: [G] in [0, 1]. length: [G] tokens. finished: [G] bool. limit: L_max, tokens.
    Example, limit 100: right of 0, 50, 100 tokens 2, 1.5, 1; wrong -10, -5, 0.
    """
    done = jnp.clip(length.astype(jnp.float32) / limit, 0.0, 1.0)
    fall = (1.0 + jnp.cos(jnp.pi * done)) / 2.0
    along = lambda ends: ends[1] + (ends[0] - ends[1]) * fall  # noqa: E731
    mixed = outcome * along(right) + (1.0 - outcome) * along(wrong)
    return jnp.where(finished, mixed, exceed)


@shaped(outcome="G", length="G")
def explored(outcome: Array, length: Array, *, limit: int, share: float) -> Array:
    """RLSP's reward [G]: (1 - share) o + share min(L / limit, 1).

    Exploration is paid whether it leads anywhere or not, decoupled from being right (arXiv
    2502.06773). The paper leaves its measure open; length, the simplest that it trains with, is
    ours to spell out.
    Example, limit 100, share .2: right of 50 tokens .9, wrong of 100 tokens .2.
    """
    return (1.0 - share) * outcome + share * jnp.minimum(length / limit, 1.0)


@shaped(tokens="T", length="")
def repeated(tokens: Array, length: Array, *, ngram: int) -> Array:
    """[T] bool: tokens of an n-gram that stood earlier in the response, overlaps included.

    Args: tokens [T]; length [] of the response; ngram n >= 1, 40 in arXiv 2502.03373.
    Example, n 2: (5, 6, 7, 5, 6, 8) marks the second 5 6.
    """
    place = jnp.arange(tokens.shape[0])

    def onward(run: Array, here: Array) -> tuple[Array, Array]:
        """Tokens up to `here` that are those up to each earlier place; is a whole n-gram so?"""
        alike = (tokens == tokens[here]) & (place < here) & (here < length)
        run = jnp.where(alike, jnp.append(0, run[:-1]) + 1, 0)
        return run, jnp.any(run >= ngram)

    _, ends = jax.lax.scan(onward, jnp.zeros_like(place), place)
    count = jnp.append(0, jnp.cumsum(ends))  # n-grams that end before each place
    return count[jnp.minimum(place + ngram, tokens.shape[0])] > count[place]


@shaped(right="G", entropy="G T", inside="G T")
def gtpo_rewards(
    right: Array, entropy: Array, inside: Array, *, base: float, bonus: float, floor: float
) -> Array:
    """Token rewards [G, T]: among right responses the uncertain tokens gain, among wrong
    ones the certain tokens lose.

        right   base + bonus n_t H_it / sum_k H_kt
        wrong  -base - bonus m_t (1 / H_jt) / sum_k 1 / H_kt

    Sums are over the n_t right (m_t wrong) responses that reach token t. So at each t
    the right ones sum to (base + bonus) n_t and the wrong ones to -(base + bonus) m_t.

    Args:
      right: [G] bool. entropy: [G, T] >= 0, nats of the law that was sampled.
      inside: [G, T] bool, response tokens of scorable trajectories. base, bonus: alpha_1
      and alpha_2, 1 and .1 in the paper. floor: > 0, least entropy (1/H overflows).
    Returns:
      [G, T]; 0 outside. arXiv 2508.04349 v5, eq. 2-3.
    Example: right H (1, 2), (3), wrong (.5, 1): (1.05, 1.1), (1.15) and (-1.1, -1.1).
    """
    entropy = jnp.maximum(jnp.where(inside, entropy, 1.0), floor)
    gains, loses = inside & right[:, None], inside & ~right[:, None]
    gained = base + bonus * _relative(entropy, gains)
    lost = -base - bonus * _relative(1.0 / entropy, loses)
    return jnp.where(gains, gained, jnp.where(loses, lost, 0.0))


def gtpo(
    right: Array,
    entropy: Array,
    inside: Array,
    *,
    base: float,
    bonus: float,
    floor: float,
    ddof: int,
    epsilon: float,
) -> Array:
    """GTPO's token advantages [G, T]: `gtpo_rewards`, each class z-scored over all tokens.

    A+ = (r+ - mean R+) / (std R+ + epsilon) on right responses and A- likewise on wrong
    ones, where R+ has the zeros of the wrong tokens and R- those of the right ones:
    without them the z-score would delete correctness. Over the group's tokens (the paper:
    the batch's). In a unanimous group entropies alone differ and are scaled to deviation
    1: leave such groups out (dynamic sampling). Arguments as `gtpo_rewards`.
    Example above, ddof 0, epsilon -> 0: A+ (.722470, .815094), (.907719).
    """
    rewards = gtpo_rewards(right, entropy, inside, base=base, bonus=bonus, floor=floor)
    gains, loses = inside & right[:, None], inside & ~right[:, None]

    def scaled(kept: Array) -> Array:
        stream = jnp.where(kept, rewards, 0.0).reshape(-1)
        flat = _zscore(stream, inside.reshape(-1), ddof, epsilon)
        return jnp.where(kept, flat.reshape(rewards.shape), 0.0)

    return scaled(gains) + scaled(loses)


@shaped(right="G", entropy="G T", inside="G T", where="G")
def grpo_s_rewards(
    right: Array,
    entropy: Array,
    inside: Array,
    where: Array,
    *,
    base: float,
    bonus: float,
    floor: float,
) -> Array:
    """GRPO-S: `gtpo_rewards` of trajectories [G], with the mean entropy of each.

        right   base + bonus n Hbar_i / sum Hbar      wrong  -base - bonus m (1/Hbar_j) / sum 1/Hbar

    Arguments as `gtpo_rewards`; where [G] bool. Example: right Hbar (1, 3): 1.05, 1.15.
    """
    mean = masked_mean(entropy, inside, axis=1)
    shaped = gtpo_rewards(right, mean[:, None], where[:, None], base=base, bonus=bonus, floor=floor)
    return shaped[:, 0]


def grpo_s(
    right: Array,
    entropy: Array,
    inside: Array,
    where: Array,
    *,
    base: float,
    bonus: float,
    floor: float,
    ddof: int,
    epsilon: float,
) -> Array:
    """Advantages [G]: the z-score of `grpo_s_rewards` over the group (arXiv 2508.04349, eq. 7)."""
    rewards = grpo_s_rewards(right, entropy, inside, where, base=base, bonus=bonus, floor=floor)
    return _zscore(rewards, where, ddof, epsilon)


def _relative(x: Array, where: Array) -> Array:
    """count * x / sum x over the selected trajectories of each token; [G, T]."""
    count = jnp.sum(where, axis=0, keepdims=True, dtype=jnp.float32)
    total = masked_sum(x, where, axis=0)[None]
    return jnp.where(where, count * safe_divide(x, jnp.broadcast_to(total, x.shape)), 0.0)


def _zscore(reward: Array, where: Array, ddof: int, epsilon: float) -> Array:
    """`group_zscore`, and 0 where rewards differ by rounding only."""
    scaled = group_zscore(reward, where, ddof=ddof, epsilon=epsilon)
    return jnp.where(has_contrast(reward, where, ROUNDING), scaled, 0.0)

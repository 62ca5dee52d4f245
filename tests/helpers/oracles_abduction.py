"""Couplings of two laws in float64 NumPy and plain loops, sharing no code with the package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def gumbel_max(law, noise) -> int:
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(law) + noise))


def inverse_cdf(law, uniform: float) -> int:
    """The other way to sample: token v where the cumulative law first exceeds the uniform."""
    total = 0.0
    for v, p in enumerate(law):
        total += p
        if uniform < total:
            return v
    return int(np.flatnonzero(law)[-1])


def same_token(p, q) -> float:
    """P(argmax(log p + U) = argmax(log q + U)), exactly.

    Token a wins both races if its clock is first in both: E_v > E_a max(p_v/p_a, q_v/q_a).
    """
    total = 0.0
    for p_a, q_a in zip(p, q, strict=True):
        if p_a > 0 and q_a > 0:
            total += 1 / sum(max(p_v / p_a, q_v / q_a) for p_v, q_v in zip(p, q, strict=True))
    return total


def flip_bounds(p, q) -> tuple[float, float]:
    """What any coupling of two laws can have as P(X != Y)."""
    apart = sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2
    must_meet = max(max(a + b - 1 for a, b in zip(p, q, strict=True)), 0)
    return apart, 1 - must_meet


def continuation(draw: Callable, next_law: Callable, text: list[int], stop: int, noises) -> list:
    """Goes on from a text, one token a noise, until the stop token."""
    tokens: list[int] = []
    for noise in noises:
        tokens.append(draw(next_law([*text, *tokens]), noise))
        if tokens[-1] == stop:
            break
    return tokens

"""A credit as one of seven shades, a sign and a shape: colour never says anything alone."""

from __future__ import annotations

import math


def shade(value: float, size: float) -> int:
    """A credit on seven shades, -3 to 3, of the largest `size`; 0 within a tenth of it.

    >>> [shade(x, 1.0) for x in (-1.0, -0.05, 0.0, 0.2, 0.5, 1.0)]
    [-3, 0, 0, 1, 2, 3]
    """
    if size == 0 or abs(value) < 0.1 * size:
        return 0
    return int(math.copysign(min(3, 1 + int(abs(value) / size * 3)), value))


def signed(x: float | None) -> str:
    """A number with its sign."""
    return "--" if x is None else f"{x:+.2f}".replace("-", "\N{MINUS SIGN}")


def sign(x: float) -> str:
    """The sign as a shape."""
    if round(x, 2) == 0:
        return "\N{WHITE CIRCLE}"
    return "\N{BLACK UP-POINTING TRIANGLE}" if x > 0 else "\N{BLACK DOWN-POINTING TRIANGLE}"

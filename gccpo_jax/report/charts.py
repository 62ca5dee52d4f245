"""Learning curves and values along a trajectory as SVG: lines with their numbers in words.

Written here because the page must carry what draws it. Vega-Lite with its runtime is about
0.8 MB of script per page and needs `eval` or an interpreter under a Content-Security-Policy; a
line with an interval is the fifty lines below, works without script, and its text is the page's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

WIDTH, HEIGHT, PAD = 320, 120, 6
_MOST_POINTS = 300  # of a line


@dataclasses.dataclass(frozen=True)
class Line:
    """One run's metric in the coordinates of a panel."""

    run: int
    raw: str  # SVG points
    mean: str  # points of the running mean; "" where there are too few
    band: str  # polygon of its 95 % interval
    first: float
    last: float
    at: tuple[float, float]  # where the last point is


@dataclasses.dataclass(frozen=True)
class Panel:
    """One metric of all runs."""

    name: str
    about: str
    low: float
    high: float
    steps: tuple[int, int]
    window: int  # steps of the running mean, 0: none
    lines: tuple[Line, ...]


def panel(name: str, about: str, series: Sequence[Sequence[tuple[int, float]]]) -> Panel | None:
    """The panel of one metric, [(step, value)] per run; None if no run has it."""
    known = [[(s, v) for s, v in one if v is not None and math.isfinite(v)] for one in series]
    points = [point for one in known for point in one]
    if not points:
        return None
    low, high = min(v for _, v in points), max(v for _, v in points)
    first, last = min(s for s, _ in points), max(s for s, _ in points)
    longest = max(map(len, known))
    window = max(5, longest // 20) if longest >= 10 else 0

    def place(step: float, value: float) -> tuple[float, float]:
        x = PAD + (step - first) / max(last - first, 1) * (WIDTH - 2 * PAD)
        share = (value - low) / (high - low) if high > low else 0.5
        share = min(max(share, 0.0), 1.0)  # an interval may leave the panel
        return round(x, 1), round(HEIGHT - PAD - share * (HEIGHT - 2 * PAD), 1)

    def joined(found: Sequence[tuple[float, float]]) -> str:
        return " ".join("{},{}".format(*place(*point)) for point in found)

    lines = []
    for n, one in enumerate(known):
        if not one:
            continue
        mean = running(one, window)
        around = [(s, m + e) for s, m, e in mean] + [(s, m - e) for s, m, e in reversed(mean)]
        centre = joined([(s, m) for s, m, _ in mean])
        shown = (joined(thinned(one)), centre, joined(around))
        lines.append(Line(n, *shown, one[0][1], one[-1][1], place(*one[-1])))
    return Panel(name, about, low, high, (first, last), window, tuple(lines))


def running(one: Sequence[tuple[int, float]], window: int) -> list[tuple[int, float, float]]:
    """(step, mean, half-width) over the last `window` steps: mean +- 1.96 s / sqrt(window).

    >>> running([(1, 0.0), (2, 2.0)], 2)
    [(2, 1.0, 1.96)]
    """
    found = []
    for n in range(window, len(one) + 1) if window > 1 else ():
        values = [v for _, v in one[n - window : n]]
        mean = sum(values) / window
        spread = sum((v - mean) ** 2 for v in values) / (window - 1)
        found.append((one[n - 1][0], mean, round(1.96 * math.sqrt(spread / window), 6)))
    return thinned(found)


def thinned(points: Sequence) -> list:
    """At most `_MOST_POINTS` of them, evenly, with the last."""
    stride = -(-len(points) // _MOST_POINTS) or 1
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def path(values: Sequence[float], width: int = 240, height: int = 44) -> list[tuple[float, float]]:
    """Points of values in [0, 1] along a trajectory, one behind the other.

    >>> path([0.0, 1.0], 100, 50)
    [(6.0, 44.0), (94.0, 6.0)]
    """
    stride = (width - 2 * PAD) / max(len(values) - 1, 1)
    level = lambda v: min(max(v, 0.0), 1.0) * (height - 2 * PAD)  # noqa: E731
    return [
        (round(PAD + n * stride, 1), round(height - PAD - level(v), 1))
        for n, v in enumerate(values)
    ]

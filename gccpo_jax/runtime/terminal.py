"""Text of models in a terminal: hostile until it is escaped; credit as colour, sign and shape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.text import Text

from gccpo_jax.runtime.shades import shade, sign, signed

STYLES = {
    -3: "on #75311d",
    -2: "on #56281b",
    -1: "on #3a211a",
    0: "",
    1: "on #17301d",
    2: "on #1c4527",
    3: "on #215c31",
}
"""Of a shade: dark backgrounds, under light letters."""
_LETTERS = "#e8eaed"
_LEVELS = "\N{LOWER ONE EIGHTH BLOCK}▂▃▄▅▆▇\N{FULL BLOCK}"


def plain(text: str) -> str:
    r"""Text with all that is no letter to look at escaped, newlines apart.

    A terminal would obey what a model writes: move its cursor, set its title, turn text round.

    >>> plain("a\x1b[2Jb\u202e\tc\n")
    'a\\x1b[2Jb\\u202e    c\n'
    """
    spaced = text.expandtabs(4)
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in spaced)


def shaded(text: str, shade: int) -> Text:
    """A model's text on the colour of a shade; nothing is taken for markup."""
    colour = STYLES[shade]
    return Text(plain(text), style=f"{_LETTERS} {colour}" if colour else "")


def coloured(pieces: Sequence[tuple[str, float]]) -> Text:
    """(text, credit) a line each and more, behind its sign."""
    size = max((abs(credit) for _, credit in pieces), default=0.0)
    lines = [
        Text.assemble(
            (f"{sign(credit)} {signed(credit)} ", "bold"),
            shaded(text.rstrip("\n"), shade(credit, size)),
        )
        for text, credit in pieces
    ]
    return Text("\n").join(lines)


def sparkline(values: Iterable[float | None], width: int = 40) -> str:
    """The last `width` values between their least and greatest; a gap where there is none.

    >>> sparkline([0.0, None, 0.5, 1.0])
    '▁ ▅█'
    """
    shown = [v if v is not None and math.isfinite(v) else None for v in list(values)[-width:]]
    known = [v for v in shown if v is not None]
    low, span = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)

    def level(value: float | None) -> str:
        if value is None:
            return " "
        return _LEVELS[int((value - low) / span * 7 + 0.5) if span else 3]

    return "".join(map(level, shown))

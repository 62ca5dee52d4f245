"""What interventions did to a step, as rows for people: names, edited texts, laws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gccpo_jax.counterfactual.arms import Intervened
from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.runtime.distributed import to_host

Law = tuple[float | None, ...]
"""[C + 1] probabilities of the candidates and, last, of everything else."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """The answer law after one step under one arm of an intervention."""

    name: str  # of `counterfactual.interventions.INTERVENTIONS`
    family: str  # "nuisance" or "content"
    text: str | None  # in place of the step; None: its tokens stayed, their cache was disturbed
    usable: bool  # False: the arm does not exist, or counts for no score
    law: Law | None


def on_host(found: Intervened) -> Intervened:
    """An intervention's laws and edits as NumPy."""
    arms, edits = jax.tree.map(to_host, (found.arms, found.edits))
    return dataclasses.replace(found, arms=arms, edits=edits)


def arms_at(
    intervened: Mapping[str, Intervened], tokenizer: Tokenizer, b: int, g: int, k: int
) -> tuple[Arm, ...]:
    """Every arm of step `k` of trajectory `g` of row `b`; arrays are on the host."""
    return tuple(
        Arm(
            name=name,
            family=found.arms.family.value,
            text=_edited(found, tokenizer, b, g, k, p),
            usable=bool(found.arms.usable[b, g, k, p]),
            law=numbers(found.arms.laws[b, g, k, p]) if found.arms.usable[b, g, k, p] else None,
        )
        for name, found in intervened.items()
        for p in range(found.arms.usable.shape[-1])
    )


def _edited(found: Intervened, tokenizer: Tokenizer, b: int, g: int, k: int, p: int) -> str | None:
    """What arm `p` read in place of step `k`."""
    if found.edits is not None:
        size = found.edits.length[b, g, k, p]
        return tokenizer.decode(found.edits.tokens[b, g, k, p, :size], skip_special=True)
    if found.rewritten is not None:
        rows = found.rewritten
        q = b * rows.arms + p
        if rows.read[q, g, k]:
            start = rows.ends[q, g, k - 1] if k else 0
            own = rows.tokens[q, g, start : rows.ends[q, g, k]]
            return tokenizer.decode(own, skip_special=True)
    return None


def number(x: Any) -> float | None:
    """A float with six digits after the point; None where it is not finite."""
    x = float(x)
    return round(x, 6) if math.isfinite(x) else None


def numbers(x: np.ndarray) -> tuple[float | None, ...]:
    """`number` of each."""
    return tuple(map(number, x))

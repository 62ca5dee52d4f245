"""A rollout in the few words that a terminal or a tracker shows."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Completion:
    """One response to one question at one step of a run."""

    step: int
    question_id: int
    question: str
    text: str
    answer: str | None
    gold: str | None
    outcome: float | None  # None: it could not be scored
    reward: float | None
    advantage: float | None  # sum over tokens
    pieces: tuple[tuple[str, float], ...]  # (text, advantage) of each step; of all of it

    @property
    def verdict(self) -> str:
        """The outcome in a word."""
        return verdict(self.outcome)


def verdict(outcome: float | None) -> str:
    """An outcome in a word.

    >>> [verdict(x) for x in (None, 0.0, 1.0, 0.25)]
    ['unscorable', 'wrong', 'right', 'scored 0.25']
    """
    words = {None: "unscorable", 0.0: "wrong", 1.0: "right"}
    return words.get(outcome, f"scored {outcome}")

"""Prompts made of several texts: a question, what siblings wrote, the question again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def joined(rows: Sequence[Sequence[np.ndarray]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [N, width] of each row's texts one behind the other, and their mask."""
    tokens = np.zeros((len(rows), width), np.int32)
    mask = np.zeros((len(rows), width), bool)
    for row, parts in enumerate(rows):
        text = np.concatenate(parts)
        tokens[row, : len(text)], mask[row, : len(text)] = text, True
    return tokens, mask

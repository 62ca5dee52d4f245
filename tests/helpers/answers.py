"""Candidate answers and an answer field of the toy policy."""

import jax.numpy as jnp
import numpy as np

from gccpo_jax.types import AnswerField, Candidates
from tests.helpers import toy

TEXT, CUE = [2, 3, 1, 4, 5], [1, 3]


ANSWERS = [[2], [2, 3], [4], [5, 5, 1]]


def candidates(answers, rows=None, width=3, junk=5, counted_as=None) -> Candidates:
    rows = rows or len(answers)
    tokens, mask = np.full((rows, width), junk), np.zeros((rows, width), bool)
    for c, answer in enumerate(answers):
        tokens[c, : len(answer)] = answer
        mask[c, : len(answer)] = True
    exists = np.arange(rows) < len(answers)
    same = np.arange(rows) if counted_as is None else np.array(counted_as)
    return Candidates(*(jnp.asarray(x) for x in (tokens, mask, exists, same)))


def field(cues=(CUE,), ends=(0,)) -> AnswerField:
    over = np.isin(np.arange(toy.V), ends)
    return AnswerField(tuple(jnp.array(cue) for cue in cues), jnp.asarray(over))

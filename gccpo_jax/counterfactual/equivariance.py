"""Equivariance: do the answers of a trajectory follow when all its numbers change?

    Eq = P(new gold answer | question and steps with other numbers)

Everything else, cues included, is as it was: a cue keeps pointing at the old answer.
Read by the scored reader at the last step, before the answer field.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.counterfactual.candidates import candidates_of
from gccpo_jax.counterfactual.places import Places
from gccpo_jax.counterfactual.readers import mean_of_known
from gccpo_jax.counterfactual.rewritten import Rewritten, laws_of_rewritten, rewritten
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Seen
from gccpo_jax.types import Candidates


def equivariance(reader: Seen, places: Places, section: CounterfactualConfig) -> np.ndarray:
    """Eq [B, G] of each trajectory, the mean over its rewrites; NaN without one.

    The candidates of a rewrite are its new answer and the old one.
    """
    solver, traces, arms = reader.solver, reader.traces, section.equivariance_arms
    shape = traces.tokens.shape[:2]
    if solver.task.number is None or arms == 0:
        return np.full(shape, np.nan)
    found = rewritten(reader, places, ["number"], arms)
    golds = [item.answer for item in traces.items for _ in range(arms)]
    last = np.take_along_axis(found.ends, found.read.sum(-1, keepdims=True) - 1, axis=-1)
    at_last = dataclasses.replace(found, ends=last, read=found.exists[..., None])
    candidates = _candidates(solver, found, golds, section.max_answer_tokens)
    laws = laws_of_rewritten(reader, at_last, candidates)
    follows = np.moveaxis(to_host(laws)[:, :, 0, 0].reshape(shape[0], arms, shape[1]), 1, -1)
    known = np.moveaxis(found.exists.reshape(shape[0], arms, shape[1]), 1, -1)
    return mean_of_known(np.where(known, follows, np.nan))


def _candidates(
    solver: Solver, found: Rewritten, golds: list[str | None], max_tokens: int
) -> Candidates:
    """New and old answer of each rewritten question, [Q, 2, A]."""
    task, rows = solver.task, []
    for item, old in zip(found.items, golds, strict=True):
        stated = "" if old is None else f"{task.cues[0]}{old}{task.terminator}"
        candidates, _ = candidates_of(
            task,
            solver.tokenizer,
            [item],
            np.array([[stated]], object),
            count=2,
            max_tokens=max_tokens,
        )
        rows.append(candidates)
    return jax.tree.map(lambda *rows: np.concatenate(rows), *rows)

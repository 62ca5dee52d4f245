"""Branches that write their trajectory's own rest again count by its chance: `known_rest`.

    Phi_k = mean_n [ o_n + (o - m/2) (pi(rest_k) - 1[branch n is rest_k]) ]

rest_k is what the trajectory wrote after boundary k, pi(rest_k) the product of its tokens'
probabilities, which sampling left, o its outcome and m the mean outcome of its group's others: a
control variate. Given the trajectories a branch is rest_k with chance pi(rest_k), so the mean over
branches is that of o_n whatever they wrote, and Phi stays a baseline that does not depend on
the step after it. What shrinks is the noise of how often a text comes whose chance and outcome
are known. m/2 stands for what the other texts are worth: most of them differ in the answer; were
it exact, only their own noise would be left. Nothing changes for long responses, whose rest
never comes again. Not clipped to [0, 1]: that would bias it.
"""

from __future__ import annotations

import numpy as np

from gccpo_jax.counterfactual.readers import Written
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.shapes import shaped


def by_chance(traces: Traces, ends: np.ndarray, written: Written, most: int) -> np.ndarray:
    """What each branch counts as, [B, G, K', N], NaN where it has no score.

    Args: ends, tokens [B, G, K'] before each boundary; `written`, branches [B, G, K', N, T'] of at
      most `most` tokens each.
    """
    branches = written.branches
    given = (traces.tokens, traces.lengths, ends)
    again = repeats(*given, to_host(branches.tokens), to_host(branches.length))
    chance = chance_of_rest(to_host(traces.rollout.logp), traces.lengths, ends, most)
    return counted(written.score, again, chance, traces.outcome)


@shaped(score="B G K N", repeats="B G K N", chance="B G K", outcome="B G")
def counted(
    score: np.ndarray, repeats: np.ndarray, chance: np.ndarray, outcome: np.ndarray
) -> np.ndarray:
    """`o_n + (o - m/2) (chance - repeats)`, [B, G, K', N]; o_n where o or m is not known.

    Args: score, o_n; chance, pi(rest); outcome, o, NaN where it could not be scored.
    Example: outcomes (1, 1, 0) of a group, chance .6 of the first: m .5, a branch that is its rest
      counts 1 - .75 x .4 = .7, another o_n + .75 x .6.
    """
    known = np.isfinite(outcome)
    outcome = np.where(known, outcome, 0.0)
    others = known.sum(1, keepdims=True) - known
    mean = (outcome.sum(1, keepdims=True) - outcome) / np.maximum(others, 1)
    apart = np.where(known & (others > 0), outcome - mean / 2, 0.0)
    return score + apart[..., None, None] * (chance[..., None] - repeats)


@shaped(logp="B G T", lengths="B G", ends="B G K")
def chance_of_rest(
    logp: np.ndarray, lengths: np.ndarray, ends: np.ndarray, most: int
) -> np.ndarray:
    """pi(rest) [B, G, K'] after the first `ends` tokens; 0 where it is longer than `most`.

    Args: logp of each token, 0 after the end; lengths of the trajectories.
    Example: probabilities (.5, .5, .8), ends (1, 3): (.4, 1).
    """
    after = np.arange(logp.shape[-1]) >= ends[..., None]
    total = np.where(after, logp[:, :, None], 0.0).sum(-1, dtype=np.float64)
    return np.where(lengths[..., None] - ends <= most, np.exp(total), 0.0)


@shaped(tokens="B G T", lengths="B G", ends="B G K", written="B G K N W", count="B G K N")
def repeats(
    tokens: np.ndarray,
    lengths: np.ndarray,
    ends: np.ndarray,
    written: np.ndarray,
    count: np.ndarray,
) -> np.ndarray:
    """Whether each branch is its trajectory's rest, [B, G, K', N] bool.

    Args: tokens and lengths of the trajectories; `written`, `count` of them, of the branches.
    """
    place = ends[..., None] + np.arange(written.shape[-1])  # in the trajectory, of each token
    rest = np.take_along_axis(tokens[:, :, None], np.minimum(place, tokens.shape[-1] - 1), -1)
    inside = np.arange(written.shape[-1]) < count[..., None]
    same = (written == rest[..., None, :]) | ~inside
    return same.all(-1) & (count == (lengths[..., None] - ends)[..., None])

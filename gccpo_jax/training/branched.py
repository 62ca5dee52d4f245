"""Branches that train: each continued branch is one more trajectory in the update.

The policy gradient at a state is estimated where it was sampled: N branches from one boundary
are a group of their own, with the same past, and whatever they differ in is theirs.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from gccpo_jax.advantage.baselines import leave_one_out
from gccpo_jax.counterfactual.readers import Written
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import buckets
from gccpo_jax.sampling.branches import Branches
from gccpo_jax.training.intervened import Trained
from gccpo_jax.types import Array, Spans


def branch_update(
    asked: Trained, spans: Spans, written: Written, limit: int
) -> tuple[Trained, dict[str, float]]:
    """The batch with its branches as further rows: G + G K' N per question.

        A = O_n - mean_{j != n} O_j    on the tokens that branch n of a boundary decoded

    Phi_k^{(-n)} is the mean over the other branches of the boundary. Tokens before the boundary
    are read and do not train (`Trained.context`). A branch that could not be scored, or is
    alone, does not train.

    Args:
      spans: macro-steps [B, G, K' + 1]; the branches are those from the ends of all but the last.
      written: branches [B, G, K', N, T'].
      limit: tokens that a trajectory and its branch hold together at most.
    Returns:
      The batch, and metrics: branches that train per trajectory, the share of them whose
      boundary has both outcomes, and the tokens that the update reads of them.
    """
    end = spans.end[..., :-1]
    longest = int(to_host(end[..., None] + written.branches.length).max())
    asked = asked.with_room(buckets.fitting(limit, longest))
    rows = branch_rows(asked.tokens, end, written.branches, jnp.asarray(written.score))
    count = asked.tokens.shape[1]
    trains = jnp.any(rows.mask, axis=-1)
    moved = jnp.any(rows.advantage != 0, axis=-1)
    total = jnp.maximum(trains.sum(), 1)
    metrics = {
        "branches_trained": float(trains.sum() / (len(trains) * count)),
        "branches_contrast": float((trains & moved).sum() / total),
        "branch_context_tokens": float((rows.mask | rows.context).sum()),
    }
    nothing = jnp.zeros_like(asked.mask)
    asked = dataclasses.replace(asked, context=nothing)
    names = ("tokens", "logp", "advantage", "mask", "context")
    joined = {
        name: jnp.concatenate([getattr(asked, name), getattr(rows, name)], axis=1) for name in names
    }
    return dataclasses.replace(asked, **joined), metrics


@jax.jit
def branch_rows(tokens: Array, end: Array, branches: Branches, score: Array) -> Trained:
    """Branches as trajectories [B, G K' N, T], without prompts.

    Args:
      tokens: [B, G, T]. end: [B, G, K'] tokens before each boundary.
      branches: [B, G, K', N, T']. score: [B, G, K', N], NaN where there is none.
    """
    known = ~jnp.isnan(score)
    compared = known & (jnp.sum(known, axis=-1, keepdims=True) > 1)
    of_all = leave_one_out
    for _ in range(3):
        of_all = jax.vmap(of_all)
    advantage = of_all(jnp.where(known, score, 0.0), known)
    position = jnp.arange(tokens.shape[-1])

    def one(
        tokens: Array, end: Array, branch: Branches, advantage: Array, trains: Array
    ) -> tuple[Array, ...]:
        after = position - end
        mask = (after >= 0) & (after < branch.length) & trains
        at = jnp.clip(after, 0, branch.tokens.shape[0] - 1)
        context = (after < 0) & jnp.any(mask)
        return (
            jnp.where(mask, branch.tokens[at], jnp.where(context, tokens, 0)),
            jnp.where(mask, branch.logp[at], 0.0),
            jnp.where(mask, advantage, 0.0),
            mask,
            context,
        )

    of_draws = jax.vmap(one, in_axes=(None, None, 0, 0, 0))
    of_boundaries = jax.vmap(of_draws, in_axes=(None, 0, 0, 0, 0))
    found = jax.vmap(jax.vmap(of_boundaries))(tokens, end, branches, advantage, compared)
    tokens, logp, advantage, mask, context = (x.reshape(len(x), -1, x.shape[-1]) for x in found)
    return Trained(None, tokens, logp, advantage, mask, context)

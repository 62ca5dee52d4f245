"""Branches decoded from where they leave their trajectory: `from_departure`.

They are those of `readers.begin_branches` under tapes that all boundaries share, token by token: a
branch is what the trajectory wrote up to the departure (`departures.py`), then what is
decoded from there, once for all boundaries that it is the branch of.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from gccpo_jax.counterfactual import readers
from gccpo_jax.counterfactual.departures import departures, sources
from gccpo_jax.counterfactual.places import boundary_sites
from gccpo_jax.counterfactual.readers import Written
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import buckets, noise
from gccpo_jax.sampling.branches import Branches
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.types import Array


def begin_departed(
    seen: Seen, tapes: Array, ends: Array, where: Array
) -> Callable[[], tuple[Written, int]]:
    """Starts the branches; what waits for them returns them and how many tokens were decoded.

    Args: tapes, keys [B, G, N]; ends [B, G, K'] tokens before each boundary; where [B, G, K'] bool,
      boundaries that are branched from.
    """
    solver, traces = seen.solver, seen.traces
    rollout, rows = traces.rollout, tapes.shape[:2]
    read = (*seen.cache, rollout.tokens, rollout.length, tapes, ends, where)
    leaves = departures(solver.policy, seen.params, *read, rule=traces.rule)
    source, needed = sources(leaves, rollout.length, where)
    flat = lambda x: x.reshape(*rows, -1)  # noqa: E731  a site for each boundary and tape
    keys = jnp.broadcast_to(tapes[:, :, None], leaves.shape).reshape(*rows, -1, 1)
    read_endings = readers.begin_branches(
        seen,
        noise.keyed(keys, solver.policy.vocab_size),
        boundary_sites(traces, flat(leaves), flat(needed)),
        limit=traces.limit,
        max_tokens=traces.limit,
        slots=readers.branch_slots(rows[0] * rows[1], keys.shape[2], solver.shards),
    )

    def written() -> tuple[Written, int]:
        found = read_endings([[item.answer or ""] for item in traces.items], 1)
        host = [to_host(x) for x in (leaves, source, where, ends)]
        return _joined(traces, found.written, *host), found.tokens

    return written


def tokens_again(lengths: np.ndarray, ends: np.ndarray, where: np.ndarray) -> float:
    """Tokens after the first boundary of each trajectory: those `departures` reads once more.

    Args: lengths [B, G]; ends, where [B, G, K'].
    """
    first = np.where(where, ends, lengths[..., None]).min(-1)
    return float((lengths - first).sum())


def _joined(
    traces: Traces,
    own: Written,  # [B, G, K' N, 1, W]
    leaves: np.ndarray,  # [B, G, K', N]
    source: np.ndarray,  # [B, G, K', N]
    where: np.ndarray,  # [B, G, K']
    ends: np.ndarray,  # [B, G, K']
) -> Written:
    """The branches [B, G, K', N] from what they share with the trajectory and what is their own."""
    shape, exists = leaves.shape, where[..., None]
    row = source * shape[-1] + np.arange(shape[-1])  # of what was decoded
    flat = row.reshape(*shape[:2], -1)
    whole = leaves >= traces.lengths[..., None, None]  # it is the trajectory
    taken = np.take_along_axis(to_host(own.branches.length)[..., 0], flat, 2).reshape(shape)
    decoded = np.where(whole, 0, taken)
    shared = leaves - ends[..., None]
    length = np.where(exists, shared + decoded, 0).astype(np.int32)
    score = np.take_along_axis(own.score[..., 0], flat, 2).reshape(shape)
    score = np.where(whole, traces.outcome[..., None, None], score)
    size = buckets.fitting(traces.limit, int(length.max(initial=1)))
    place = np.arange(size)  # of a branch's tokens

    def join(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Of [B, G, T] and [B, G, K' N, W], [B, G, K', N, size] with zeros behind each branch."""
        at = np.minimum(ends[..., None, None] + place, before.shape[-1] - 1)
        old = np.take_along_axis(before[:, :, None, None], at, -1)
        rows = np.take_along_axis(after, flat[..., None], 2).reshape(*shape, -1)
        at = np.clip(place - shared[..., None], 0, after.shape[-1] - 1)
        new = np.take_along_axis(rows, at, -1)
        joined = np.where(place < shared[..., None], old, new)
        return np.where(place < length[..., None], joined, 0)

    tokens = join(traces.tokens, to_host(own.branches.tokens)[..., 0, :])
    logp = join(to_host(traces.rollout.logp), to_host(own.branches.logp)[..., 0, :])
    branches = Branches(*map(jnp.asarray, (tokens, logp, length)))
    return Written(branches, np.where(exists, score, np.nan).astype(np.float32))

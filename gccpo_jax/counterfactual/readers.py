"""Both readers: from sites to answer laws and values.

`laws_at` asks for the answer at once (IR), `continued` lets the policy go on and
looks at where it ends (TE). Candidate answers are fixed before anything is read. The
reader is an argument: trajectories as it holds them (`Seen`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.counterfactual.answer_laws import site_laws
from gccpo_jax.runtime.distributed import divided, to_host
from gccpo_jax.sampling import buckets
from gccpo_jax.sampling.branches import Branches, at_sites, continue_branches
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.outcomes import can_score, verified
from gccpo_jax.sampling.ring_queue import queue_branches
from gccpo_jax.sampling.sites import Sites
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.tasks.base import Item
from gccpo_jax.types import Array, Candidates

UNSCORABLE = -1

ON_ACCELERATOR = 256
"""Branches that are decoded at a time on a GPU or TPU, at least."""


@dataclasses.dataclass(frozen=True)
class Readout:
    """What a reader found at sites [B, G, E, P]."""

    laws: np.ndarray  # [B, G, E, P, C + 1] f32
    value: np.ndarray  # [B, G, E, P] f32  probability (mean score) of a right answer; NaN unknown
    answers: np.ndarray  # [B, G, E, P, N] int32  of each branch: candidate, C other, -1 unscorable
    tokens: int  # decoded
    written: Written | None = None  # the branches themselves; None: there are none, or not kept


@dataclasses.dataclass(frozen=True)
class Written:
    """Branches from sites [B, G, E P], and how each of them ended."""

    branches: Branches  # [B, G, E P, N, T]
    score: np.ndarray  # [B, G, E P, N] f32  NaN where there is none
    counted: np.ndarray | None = None  # [B, G, E P, N]  what Phi is the mean of; None: the scores


@dataclasses.dataclass(frozen=True)
class Values:
    """What branches from the ends of macro-steps say."""

    value: np.ndarray  # [B, G, E] f32  Phi after each; NaN after the last and where unknown
    tokens: float  # decoded
    again: float = 0.0  # tokens of trajectories that were read to find where branches leave them
    outcome: np.ndarray | None = None  # [B, G] f32  o^do, of values in other words; NaN unknown
    written: Written | None = None  # of values as asked [B, G, E - 1]


Reader = Callable[[Sites], Readout]
CandidateTexts = Sequence[Sequence[str]]
"""Candidate answers [B][C] as `candidates.candidates_of` returns them."""


def continued(
    seen: Seen,
    answers: CandidateTexts,
    count: int,  # C
    tapes: Tape,  # [B, G, N], or [B, G, E, N]: others at each site (P is 1, at_once is 0)
    *,
    max_tokens: int,
    limit: int,
    at_once: int = 0,
) -> Reader:
    """The reader that goes on: a branch per tape, the same tapes at every site.

    `at_once` steps of each trajectory are decoded together, 0 all: branches from late
    steps are short, so step by step wastes fewer rows that have ended, and memory; all
    together keeps an accelerator busy.

    The law is the share of branches that end in each answer; branches that cannot be
    scored are left out. It is unbiased, but divergences of such laws are not (plug-in
    JSD is positive between equal laws): use values and `reward.agreement`.
    """
    begin = partial(begin_branches, seen, tapes, max_tokens=max_tokens, limit=limit)

    def read(sites: Sites) -> Readout:
        columns = sites.keep.shape[2]
        size = at_once or columns
        starts = range(0, columns, size)
        parts = [
            begin(jax.tree.map(lambda x, e=e: x[:, :, e : e + size], sites))(answers, count)
            for e in starts
        ]
        return Readout(
            laws=np.concatenate([part.laws for part in parts], 2),
            value=np.concatenate([part.value for part in parts], 2),
            answers=np.concatenate([part.answers for part in parts], 2),
            tokens=sum(part.tokens for part in parts),
        )

    return read


def begin_branches(
    seen: Seen, tapes: Tape, sites: Sites, *, max_tokens: int, limit: int, slots: int = 0
) -> Callable[[CandidateTexts, int], Readout]:
    """`continued` in two halves: starts the branches, returns what reads their endings.

    The first half waits for nothing, so the host can find candidates meanwhile; the second,
    given the candidate answers and C, waits for the branches, and what was started after them
    runs while their endings are checked. Branches are drawn from the law of the trajectories.

    `slots` branches are decoded at a time and the others wait in a queue (`ring_queue.py`;
    tapes without a recording, questions on one device); 0: there is no queue.

    They are drawn in buffers for twice what the trajectories are held in (`buckets.sizes`). While
    one of them is cut by that, all are drawn again in the next longer ones, the same as far as
    they had come: the limit costs nothing that no branch reaches.
    """
    solver, traces = seen.solver, seen.traces
    shape = sites.keep.shape
    flat = jax.tree.map(lambda x: x.reshape(*shape[:2], -1, *x.shape[4:]), on_device(sites))
    noise = at_sites(tapes, flat.keep.shape[2])
    given = (solver.policy, seen.params, *seen.cache, flat)
    short = _first_buffer(seen, sites, limit)

    def draw(limit: int) -> Branches:
        options = {"rule": traces.rule, "max_tokens": min(max_tokens, limit), "limit": limit}
        if slots:
            return queue_branches(*given, noise.key, solver.stop, **options, slots=slots)
        return continue_branches(*given, noise, solver.stop, **options)

    started = draw(short)

    def read_endings(answers: CandidateTexts, count: int) -> Readout:
        branches, size, begun = started, short, _begun(flat)
        while size < limit and _is_cut(branches, begun, size, to_host(solver.stop)):
            size = buckets.fitting(limit, 2 * size)
            branches = draw(size)
        found, scores = _endings(solver, traces, answers, count, flat, branches)
        return Readout(
            laws=_shares(found, count).reshape(*shape, count + 1),
            value=mean_of_known(scores).reshape(shape).astype(np.float32),
            answers=found.reshape(*shape, -1),
            tokens=int(to_host(branches.length).sum()),
            written=Written(branches, scores),
        )

    return read_endings


def _first_buffer(seen: Seen, sites: Sites, limit: int) -> int:
    """Tokens, of `buckets.sizes`, that a response and its branch are first given together."""
    twice = 2 * seen.cache[1].mask.shape[-1]
    if twice >= limit:
        return limit
    return buckets.fitting(limit, max(twice, int(_begun(sites).max(initial=0)) + 1))


def _begun(sites: Sites) -> np.ndarray:
    """Tokens [...] of a response before its branches, 0 where there is no site."""
    keep, length, exists = map(to_host, (sites.keep, sites.length, sites.exists))
    return np.where(exists, np.maximum(keep, 0) + length, 0)


def _is_cut(branches: Branches, begun: np.ndarray, limit: int, stop: np.ndarray) -> bool:
    """Whether a branch [B, G, E, N] ends at `limit` without a stop token."""
    tokens, lengths = to_host(branches.tokens), to_host(branches.length)
    last = np.take_along_axis(tokens, np.maximum(lengths - 1, 0)[..., None], -1)[..., 0]
    full = (lengths > 0) & (begun[..., None] + lengths >= limit)
    return bool((full & ~stop[last]).any())


def branch_slots(rollouts: int, each: int, shards: int, on_cpu: bool | None = None) -> int:
    """Branches decoded at a time; 0: all at once, since a queue serves one device.

    The fewer, the fewer wait for the longest. A CPU is kept busy by a quarter of the rollouts, and
    by 32 if they are few; an accelerator, which reads all weights for each token of one or of
    hundreds, by 256 at the least, and where there are no more the queue has no use.

    Args:
      rollouts: of a step. each: branches per rollout. shards: devices with questions of their own.
      on_cpu: None asks JAX.
    """
    total = rollouts * each
    on_cpu = jax.default_backend() == "cpu" if on_cpu is None else on_cpu
    if shards > 1 or (not on_cpu and total <= ON_ACCELERATOR):
        return 0
    return min(max(rollouts // 4, 32 if on_cpu else ON_ACCELERATOR), total)


def laws_at(seen: Seen, sites: Sites, candidates: Candidates) -> Array:
    """`site_laws` [B, G, E, P, C + 1] of trajectories in a reader's cache."""
    solver, places = seen.solver, on_device(sites)
    return site_laws(solver.policy, seen.params, *seen.cache, places, solver.field, candidates)


def on_device(sites: Sites) -> Sites:
    """The sites as JAX arrays, integers as int32."""
    return Sites(
        *(jnp.asarray(x, jnp.int32) for x in (sites.keep, sites.tokens, sites.length, sites.tape)),
        jnp.asarray(sites.exists, bool),
    )


def _endings(
    solver: Solver,
    traces: Traces,
    answers: Sequence[Sequence[str]],
    count: int,
    sites: Sites,  # [B, G, E]
    branches: Branches,  # [B, G, E, N, T]
) -> tuple[np.ndarray, np.ndarray]:
    """Which candidate each branch ends in, and its score (NaN: unscorable), [B, G, E, N]."""
    host = jax.tree.map(to_host, sites)
    tokens, lengths = to_host(branches.tokens), to_host(branches.length)

    def of_question(b: int) -> np.ndarray:
        rows = np.full((2, *lengths.shape[1:]), np.nan, np.float32)  # endings and scores
        rows[0] = UNSCORABLE
        known: dict[bytes, tuple[int, float]] = {}
        for g, e in zip(*np.nonzero(host.exists[b]), strict=True):
            keep = host.keep[b, g, e]
            own = host.tokens[b, g, e, : host.length[b, g, e] if keep >= 0 else 0]
            for n in range(lengths.shape[-1]):
                written = tokens[b, g, e, n, : lengths[b, g, e, n]]
                ids = np.concatenate([traces.tokens[b, g, : max(keep, 0)], own, written])
                key = ids.tobytes()
                if key not in known:
                    known[key] = _ending(solver, traces.items[b], answers[b], count, ids)
                rows[:, g, e, n] = known[key]
        return rows

    found = divided(of_question, len(lengths))
    return found[:, 0].astype(np.int32), found[:, 1]


def _ending(
    solver: Solver, item: Item, answers: Sequence[str], count: int, ids: np.ndarray
) -> tuple[int, float]:
    text = solver.tokenizer.decode(ids, skip_special=True)
    score = verified(solver.task, item, text)
    if score is None and can_score(solver.task, item):
        return UNSCORABLE, np.nan
    answer = solver.task.answer_of(item, text)
    same = (n for n, other in enumerate(answers) if other and solver.task.same(other, answer))
    ending = next(same, count) if answer is not None else count
    return ending, np.nan if score is None else score


def _shares(found: np.ndarray, count: int) -> np.ndarray:
    """Laws [..., C + 1]: the share of each ending among those that could be scored."""
    hits = (found[..., None] == np.arange(count + 1)).sum(-2)
    total = hits.sum(-1, keepdims=True)
    unknown = np.arange(count + 1) == count  # nothing is known: all mass outside the candidates
    return np.where(total > 0, hits / np.maximum(total, 1), unknown).astype(np.float32)


def mean_of_known(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean over an axis without NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis), known.sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

"""Effects read in the population of questions that differ in surface (or in numbers) only.

    Phi^do_k = mean_w mean_n 1[A(q^w, s^w_1..k; tape n) = a^w]     w = 1..P rewrites
    o^do     = Phi^do after all steps before the answer field
    rho_k    = min(1, exp(sum_{t in k} log pi(s^w_t | q^w, s^w_<t) - log pi(s_t | q, s_<t)))

Branches go on from the *rewritten* prefix, so a value that rests on a cue of the wording
averages out in place of being praised; what is encoded serves values, rho and the do-update
alike. Draws of one trajectory share their tapes over steps and rewrites, so the identity
rewrite gives the factual effects bit by bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.counterfactual import readers
from gccpo_jax.counterfactual.needed_rows import differs
from gccpo_jax.counterfactual.places import Places, boundary_sites
from gccpo_jax.counterfactual.rewritten import rewritten
from gccpo_jax.masked import masked_mean
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import fresh_tapes
from gccpo_jax.sampling.traces import Seen, Traces, encode_responses
from gccpo_jax.types import Array, Prompts, Spans

FAMILIES = {"none": (), "surface": ("surface",), "number": ("number",)}
FAMILIES["both"] = ("surface", "number")


@dataclasses.dataclass(frozen=True)
class Transported:
    """Trajectories in the words of each arm, as the policy reads them: Q = B P rows."""

    seen: Seen  # [Q, G, T] with the log-probabilities that the policy gives them there
    spans: Spans  # [Q, G, E]  their macro-steps
    ends: np.ndarray  # [Q, G, E] int32  the same without the answer field
    exists: np.ndarray  # [Q, G] bool
    arms: int  # P

    def by_question(self, x: np.ndarray) -> np.ndarray:
        """[Q, ...] as [B, P, ...]."""
        return x.reshape(-1, self.arms, *x.shape[1:])


def transport(writer: Seen, places: Places, section: CounterfactualConfig) -> Transported:
    """Rewrites the trajectories and reads them once."""
    solver, traces = writer.solver, writer.traces
    hows = FAMILIES[section.transport]
    found = rewritten(writer, places, hows, section.transport_arms, whole=True)
    ids = jnp.repeat(jnp.asarray(traces.prompts.ids), found.arms)
    prompts = Prompts(jnp.asarray(found.prompts), jnp.asarray(found.prompt_mask), ids)
    prompt, rollout = encode_responses(
        solver.policy,
        writer.params,
        prompts,
        jnp.asarray(found.tokens),
        jnp.asarray(found.length),
        solver.stop,
        rule=traces.rule,
    )
    moved = Traces(
        items=found.items,
        prompts=prompts,
        seed=traces.seed,
        keys=jnp.repeat(traces.keys, found.arms),
        prompt=prompt,
        rollout=rollout,
        tokens=found.tokens,
        lengths=found.length,
        texts=np.full(found.length.shape, "", object),
        outcome=np.full(found.length.shape, np.nan, np.float32),
        rule=traces.rule,
        limit=traces.limit,
        keyed=False,
    )
    return Transported(
        Seen(solver, writer.params, moved), _spans(found.ends, found), found.ends,
        found.exists, found.arms,
    )  # fmt: skip


def _spans(ends: np.ndarray, found) -> Spans:
    """Macro-steps [Q, G, E] of the whole texts: the last one runs to the end."""
    count = found.read.sum(-1, keepdims=True)
    end = np.where(np.arange(ends.shape[-1]) == count - 1, found.length[..., None], ends)
    end = np.where(found.read, end, found.length[..., None]).astype(np.int32)
    start = np.concatenate([np.zeros_like(end[..., :1]), end[..., :-1]], -1)
    return Spans(jnp.asarray(start), jnp.asarray(end), jnp.asarray(found.read))


def begin_values(moved: Transported, section: CounterfactualConfig) -> Callable[[], readers.Values]:
    """Starts the branches and returns what waits for them: Phi^do, o^do."""
    seen = moved.seen
    traces = seen.traces
    rows, group = traces.lengths.shape
    read = to_host(moved.spans.mask)
    ends = jnp.asarray(moved.ends)
    needed = to_host(differs(ends)) & read  # a place that is the one before it has its value
    sites = boundary_sites(traces, ends, jnp.asarray(needed))
    tapes = noise.keyed(
        fresh_tapes(traces.keys, group, section.draws), seen.solver.policy.vocab_size
    )
    each = read.shape[-1] * section.draws
    slots = readers.branch_slots(rows * group, each, seen.solver.shards)
    most = {"max_tokens": section.branch_tokens or traces.limit, "limit": traces.limit}
    endings = readers.begin_branches(seen, tapes, sites, **most, slots=slots)

    def values() -> readers.Values:
        golds = [[item.answer or ""] for item in traces.items]
        found = endings(golds, 1)
        value = _carried(found.value[..., 0], needed)
        value = np.where(read, value, np.nan)
        mean = readers.mean_of_known(moved.by_question(value), axis=1)
        count = read.reshape(-1, moved.arms, *read.shape[1:]).max(1).sum(-1)  # [B, G] steps
        last = np.maximum(count - 1, 0)[..., None]
        outcome = np.take_along_axis(mean, last, -1)[..., 0]
        outcome = np.where(count > 0, outcome, np.nan)
        np.put_along_axis(mean, last, np.nan, -1)
        return readers.Values(
            mean.astype(np.float32), float(found.tokens), outcome=outcome.astype(np.float32)
        )

    return values


def metrics_of(moved: Transported, outcome: np.ndarray, rho: np.ndarray) -> dict[str, float]:
    """Share of rewrites that exist, mean o^do and rho_k; tokens that were encoded."""
    lengths, prompts = moved.seen.traces.lengths, to_host(moved.seen.traces.prompts.mask)
    return {
        "rewritten": float(moved.exists.mean()),
        "outcome_do": _finite_mean(outcome),
        "step_robustness": _finite_mean(rho),
        "rewritten_tokens": float(lengths.sum() + prompts.sum()),
    }


def _finite_mean(x: np.ndarray) -> float:
    known = np.isfinite(x)
    return float(x[known].mean()) if known.any() else 0.0


def _carried(value: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Values [..., E] with those that were not needed replaced by the one before."""
    index = np.where(needed, np.arange(value.shape[-1]), 0)
    return np.take_along_axis(value, np.maximum.accumulate(index, axis=-1), -1)


def step_robustness(writer: Seen, places: Places, moved: Transported) -> np.ndarray:
    """rho [B, G, E], the mean over the arms in which the step exists; NaN where none does."""
    asked = _step_sums(writer.traces.rollout.logp, places.spans)
    there = _step_sums(moved.seen.traces.rollout.logp, moved.spans)
    ratio = moved.by_question(to_host(there)) - to_host(asked)[:, None]
    rho = np.exp(np.minimum(ratio, 0.0))
    exists = moved.by_question(to_host(moved.spans.mask))
    return readers.mean_of_known(np.where(exists, rho, np.nan), axis=1)


@jax.jit
def _step_sums(logp: Array, spans: Spans) -> Array:
    """Log-probabilities [Q, G, E] of steps from those of tokens [Q, G, T]."""
    total = jnp.cumsum(jnp.pad(logp, ((0, 0), (0, 0), (1, 0))), axis=-1)
    at = lambda place: jnp.take_along_axis(total, place, axis=-1)  # noqa: E731
    return jnp.where(spans.mask, at(spans.end) - at(spans.start), 0.0)


@jax.jit
def token_weights(
    asked: Array,  # [B, G, T]  log-probabilities as sampled
    asked_spans: Spans,  # [B, G, E]
    there: Array,  # [B, G, T]  and of the same trajectories, rewritten
    there_spans: Spans,  # [B, G, E]
) -> Array:
    """Truncated weights [B, G, T] of rewritten tokens: min(1, pi(s^w_t) / pi(s_t)).

    Token by token where a step kept its number of tokens; elsewhere the step's geometric
    mean, so that weights of a step do not depend on how many tokens say it. 0 outside steps.
    """

    def trajectory(a: Array, sa: Spans, b: Array, sb: Spans) -> Array:
        position = jnp.arange(b.shape[0])

        def step(start: Array, end: Array, begin: Array, close: Array, exists: Array) -> Array:
            inside = (position >= begin) & (position < close) & exists
            source = jnp.clip(position - begin + start, 0, a.shape[0] - 1)
            each = b - a[source]
            own = (position >= start) & (position < end)
            mean = masked_mean(b, inside) - masked_mean(a, own)
            ratio = jnp.where(end - start == close - begin, each, mean)
            return jnp.where(inside, jnp.exp(jnp.minimum(ratio, 0.0)), 0.0)

        return jnp.sum(jax.vmap(step)(sa.start, sa.end, sb.start, sb.end, sb.mask & sa.mask), 0)

    return jax.vmap(jax.vmap(trajectory))(asked, asked_spans, there, there_spans)

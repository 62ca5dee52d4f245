"""Every score of every step of given trajectories: the engine without a trainer.

Phi   at every boundary, N continued branches under shared noise        (TE)
P     at every boundary, scored over the candidate answers              (IR)
R     `latent` and `surface`;  S  `corrupt`, and `delete` for comparison
D^cf  against resamples, continued;  agreement under `corrupt`, continued (an audit)
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax import reward
from gccpo_jax.analysis.audit import audit
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.counterfactual import readers
from gccpo_jax.counterfactual.arms import Intervened
from gccpo_jax.counterfactual.candidates import candidates_of
from gccpo_jax.counterfactual.equivariance import equivariance
from gccpo_jax.counterfactual.gate import reader_metrics
from gccpo_jax.counterfactual.places import Asked, Places, boundary_sites, starts_of
from gccpo_jax.counterfactual.read import arms_of, ask, law_before
from gccpo_jax.counterfactual.shown import on_host
from gccpo_jax.counterfactual.step_edits import delete
from gccpo_jax.counterfactual.true_thinking import true_thinking_scores
from gccpo_jax.reward.arms import Arms, Family, no_arms
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import fresh_tapes
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.types import Array, Spans

_ROWS = 64  # branches decoded together at least: fewer leave a decoder waiting for its weights


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Scores of B questions x G trajectories x E steps; NaN where a score is not defined."""

    spans: Spans  # [B, G, E] numpy
    labels: np.ndarray  # candidates as strings, [B, C] object
    outcome: np.ndarray  # [B, G]
    value: np.ndarray  # [B, G, E + 1]  Phi_0 .. Phi_K, continued; the last one is the outcome
    hits: np.ndarray  # [B, G, E + 1] int  branches that ended right, of `tried`
    tried: np.ndarray  # [B, G, E + 1] int
    effect: np.ndarray  # [B, G, E]  D_k
    laws: reward.Laws  # [B, G, ...] of the scored reader: what the next scores are made from
    arms: dict[str, Intervened]  # on the host: the same arms by intervention, with their edits
    scored_value: np.ndarray  # [B, G, E + 1]  P(a*) of the scored reader
    scored_effect: np.ndarray  # [B, G, E]
    other: np.ndarray  # [B, G, E]  mass of the scored law outside the candidates
    robustness: np.ndarray  # [B, G, E]
    robustness_arms: np.ndarray  # [B, G, E, P]  1 - JSD of each arm
    sensitivity: np.ndarray  # [B, G, E]
    sensitivity_arms: np.ndarray  # [B, G, E, P2]
    selectivity: np.ndarray  # [B, G, E]
    deletion: np.ndarray  # [B, G, E]  JSD when the step is not there
    counterfactual: np.ndarray  # [B, G, E]  D^cf; audit
    agreement: np.ndarray  # [B, G, E]  same answer under `corrupt`, continued; audit
    but_for: np.ndarray  # [B, G, E]  own answer changes under `corrupt` and its own noise; audit
    true_thinking: np.ndarray  # [B, G, E]  TTS, where it was asked for
    equivariance: np.ndarray  # [B, G]  P(new answer) under number rewrites
    logp: np.ndarray  # [B, G, E]  mean per token
    entropy: np.ndarray  # [B, G, E]  mean per token
    gate: float  # reader gate over the batch
    decoded: int  # tokens

    @property
    def mask(self) -> np.ndarray:
        """[B, G, E] steps that exist."""
        return to_host(self.spans.mask)


def analyse_traces(
    seen: Seen, spans: Spans, settings: Settings, *, pool_of: np.ndarray, limit: int
) -> Analysis:
    """Measures every step of every trajectory.

    Args:
      spans: steps [B, G, E]; a step may be empty.
      pool_of: [B, ...] texts whose answers are the candidates of each question; fixed
        before anything is read.
      limit: tokens that prefix and branch hold together.
    """
    solver, traces = seen.solver, seen.traces
    c = settings.counterfactual
    spans = trim_steps(spans)
    places = Places(spans, spans, starts_of(seen))
    candidates, answers = candidates_of(
        solver.task,
        solver.tokenizer,
        traces.items,
        pool_of,
        count=c.max_candidates,
        max_tokens=c.max_answer_tokens,
    )
    tapes = fresh_tapes(traces.keys, traces.tokens.shape[1], c.draws)
    go_on = readers.continued(
        seen,
        answers,
        c.max_candidates,
        noise.keyed(tapes, solver.policy.vocab_size),
        max_tokens=settings.max_tokens,
        limit=limit,
        at_once=-(-_ROWS // (traces.lengths.size * c.draws)),
    )
    values = _values(go_on, traces, spans)
    asked = ask(seen, seen, places, candidates, c, settings.segmentation, settings.max_tokens)
    before = law_before(asked)
    laws, intervened = _laws(asked, before)
    found = jax.tree.map(to_host, reward.score_batch(laws, max_other=c.max_other))
    mask = to_host(spans.mask)
    return Analysis(
        spans=jax.tree.map(to_host, spans),
        labels=_padded(answers, c.max_candidates),
        outcome=traces.outcome,
        **_signed(values, traces.outcome, mask),
        laws=laws,
        arms={name: on_host(read) for name, read in intervened.items()},
        scored_value=_scored_values(found, laws, c.max_other),
        scored_effect=_defined(found.effect),
        other=np.where(mask, to_host(laws.factual)[..., -1], np.nan),
        robustness=_defined(found.robustness),
        robustness_arms=_each_arm(laws.nuisance, 1.0),
        sensitivity=_defined(found.sensitivity),
        sensitivity_arms=_each_arm(laws.content, 0.0),
        selectivity=_defined(found.selectivity),
        deletion=np.where(mask, to_host(_deleted(laws.before, laws.factual, laws.mask)), np.nan),
        **audit(seen, places, go_on, answers, settings, limit),
        true_thinking=(
            true_thinking_scores(asked, before)
            if settings.true_thinking and solver.task.corrupt
            else np.full(mask.shape, np.nan)
        ),
        equivariance=equivariance(seen, places, c),
        logp=_step_mean(traces.rollout.logp, spans),
        entropy=_step_mean(traces.rollout.entropy, spans),
        gate=reader_metrics(solver.task, traces, spans, laws.factual, candidates, answers)[
            "reader_gate"
        ],
        decoded=values.tokens,
    )


def trim_steps(spans: Spans) -> Spans:
    """The same steps without columns that no trajectory has (a few sizes, so that few compile)."""
    most = max(1, int(to_host(spans.mask).sum(-1).max(initial=1)))
    size = next(n for n in (2, 3, 4, 6, 8, 12, 16, 24, 32, most) if n >= most)
    size = min(size, spans.mask.shape[-1])
    return jax.tree.map(lambda x: jnp.asarray(x)[..., :size], spans)


def _values(go_on: readers.Reader, traces: Traces, spans: Spans) -> readers.Readout:
    """Branches from before the first step and after each but the last."""
    ends = jnp.concatenate([jnp.zeros_like(spans.end[..., :1]), spans.end[..., :-1]], -1)
    return go_on(boundary_sites(traces, ends, spans.mask))


def _signed(values: readers.Readout, outcome: np.ndarray, mask: np.ndarray) -> dict:
    """Phi_0 .. Phi_K (the last is o), how it was counted, and D."""
    before = values.value[..., 0]
    scored = (values.answers[..., 0, :] != readers.UNSCORABLE).sum(-1)
    tried = np.where(mask, scored, 0)
    hits = np.where(tried > 0, np.rint(np.nan_to_num(before) * tried), 0).astype(int)
    count = mask.sum(-1)
    value = np.concatenate(
        [np.where(mask, before, np.nan), np.full((*mask.shape[:2], 1), np.nan)], -1
    )
    np.put_along_axis(value, count[..., None], outcome[..., None], axis=-1)
    effect = np.where(mask, value[..., 1:] - value[..., :-1], np.nan)
    zero = np.zeros((*mask.shape[:2], 1), int)
    return {
        "value": value,
        "effect": effect,
        "hits": np.concatenate([hits, zero], -1),
        "tried": np.concatenate([tried, zero], -1),
    }


def _laws(asked: Asked, before: Array) -> tuple[reward.Laws, dict[str, Intervened]]:
    """All scored laws [B, G, ...] of the trajectories, and the arms before they were pooled."""
    spans, factual = asked.places.spans, asked.factual
    arms, _, intervened = arms_of(asked)
    gold = jnp.where(jnp.asarray(asked.candidates.exists)[:, 0], 0, -1)
    laws = reward.Laws(
        before=before,
        factual=factual,
        mask=spans.mask,
        gold=jnp.broadcast_to(gold[:, None], spans.mask.shape[:2]),
        nuisance=arms[Family.NUISANCE],
        content=arms[Family.CONTENT],
        baseline=no_arms(Family.BASELINE, spans.mask.shape, factual.shape[-1]),
    )
    return laws, intervened


def _defined(score: reward.Score) -> np.ndarray:
    return np.where(score.defined, score.value, np.nan)


def _scored_values(found: reward.Scores, laws: reward.Laws, max_other: float) -> np.ndarray:
    before = to_host(laws.before)
    ok = (to_host(laws.gold) >= 0) & to_host(reward.readable(laws.before, max_other))
    start = np.where(ok, before[..., 0], np.nan)
    return np.concatenate([start[..., None], _defined(found.value)], -1)


def _each_arm(arms: Arms, zero: float) -> np.ndarray:
    """JSD of each arm (1 - JSD for `zero` = 1) where usable, else NaN."""
    if not arms.usable.shape[-1]:
        return np.zeros(arms.usable.shape)
    distance = to_host(reward.jsd(arms.factual, arms.laws))
    return np.where(to_host(arms.usable), np.abs(zero - distance), np.nan)


@jax.jit
def _deleted(before: Array, factual: Array, mask: Array) -> Array:
    arms = jax.vmap(jax.vmap(delete))(before, factual, mask)
    return reward.jsd(arms.factual, arms.laws)[..., 0]


def _step_mean(per_token: Array, spans: Spans) -> np.ndarray:
    """Means [B, G, E] of per-token numbers over the tokens of each step."""
    x = np.asarray(per_token, np.float64)
    total = np.concatenate([np.zeros((*x.shape[:2], 1)), np.cumsum(x, -1)], -1)
    start, end = to_host(spans.start), to_host(spans.end)
    size = end - start
    sums = np.take_along_axis(total, end, -1) - np.take_along_axis(total, start, -1)
    return np.where(to_host(spans.mask) & (size > 0), sums / np.maximum(size, 1), np.nan)


def _padded(answers: list[list[str]], count: int) -> np.ndarray:
    out = np.full((len(answers), count), "", object)
    for b, row in enumerate(answers):
        out[b, : len(row)] = row
    return out

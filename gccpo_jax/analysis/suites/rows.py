"""Steps of judged trajectories as flat rows: labels, outcomes and every score side by side."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.kinds import credit_batch
from gccpo_jax.analysis.engine import Analysis
from gccpo_jax.analysis.settings import COUNTERFACTUAL
from gccpo_jax.analysis.suites.trajectories import Judged
from gccpo_jax.config import CreditConfig
from gccpo_jax.counterfactual.text_edits import claim
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.types import Rollout

SCORES = {
    "te_d": "D, continued (total effect)",
    "te_phi": "Phi, continued",
    "ir_d": "D, scored (answer now)",
    "robustness": "R alone",
    "selectivity": "Q = R S",
    "outcome": "outcome on every step",
    "logprob": "mean log-probability",
    "entropy": "mean entropy",
    "tts": "true-thinking score (scored, in intact and corrupted contexts)",
    "prm": "process reward model",
    "credit": "credit of the method (gated, discounted)",
    "permuted": "the same, permuted inside the trajectory",
    "gated": "gated effect, R max(D, 0) + min(D, 0)",
    "observational": "siblings with the same result (no intervention)",
    "length": "tokens of the step",
}
"""Name to meaning; a score is judged as it is, higher meaning better."""

_PERMUTED = 1
"""Keeps orders of credits apart from the draws of injected flaws (`trajectories.py`)."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """One row per step of a trajectory; columns are arrays [N]."""

    question: np.ndarray  # ids
    trajectory: np.ndarray  # unique inside a question
    step: np.ndarray  # index
    label: np.ndarray  # object
    outcome: np.ndarray
    injected: np.ndarray  # bool: of a trajectory with an injected step
    wrong: np.ndarray  # bool: its label says that it is wrong
    sound_before: np.ndarray  # bool: no wrong step before it
    scores: dict[str, np.ndarray]  # names of `SCORES`, those that were measured

    def where(self, keep: np.ndarray) -> Rows:
        """The rows `keep` [N] bool."""
        columns = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        scores = {name: x[keep] for name, x in columns.pop("scores").items()}
        return Rows(**{name: x[keep] for name, x in columns.items()}, scores=scores)


def rows_of(judged: Judged, seed: int) -> Rows:
    """Rows of all steps that exist, of trajectories whose outcome is known."""
    mask = judged.analysis.mask
    index = np.argwhere(mask & ~np.isnan(judged.traces.outcome)[..., None])
    b, g, k = index.T
    ids = np.array([item.id for item in judged.items])
    arrays = _arrays(judged, ids, seed)
    labels = np.array([judged.labels[i][j][n] for i, j, n in index], object)
    flaws = judged.flaws
    return Rows(
        question=ids[b],
        trajectory=g,
        step=k,
        label=labels,
        outcome=judged.traces.outcome[b, g],
        injected=g >= judged.sampled,
        wrong=np.isin(labels, flaws),
        sound_before=np.array(
            [not {*judged.labels[i][j][:n]} & {*flaws} for i, j, n in index], bool
        ),
        scores={name: x[b, g, k] for name, x in arrays.items()},
    )


def join(parts: list[Rows]) -> Rows:
    """Rows of several batches as one."""
    columns = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in dataclasses.fields(Rows)
        if f.name != "scores"
    }
    names = parts[0].scores
    scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in names}
    return Rows(**columns, scores=scores)


def _arrays(judged: Judged, ids: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Every score that was measured as [B, G, E]."""
    found = judged.analysis
    outcome = np.broadcast_to(judged.traces.outcome[..., None], found.mask.shape)
    gated, credit = method_credit(found, judged.traces.rollout)
    scored = {} if judged.scored is None else {"prm": judged.scored}
    return {
        **scored,
        "te_d": found.effect,
        "te_phi": found.value[..., 1:],
        "ir_d": found.scored_effect,
        "robustness": found.robustness,
        "selectivity": found.selectivity,
        "outcome": outcome,
        "logprob": found.logp,
        "entropy": found.entropy,
        "tts": found.true_thinking,
        "credit": credit,
        "permuted": permuted(credit, found.mask, ids, seed),
        "gated": gated,
        "observational": observational(judged),
        "length": (found.spans.end - found.spans.start).astype(np.float64),
    }


def method_credit(found: Analysis, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
    """Gated effects and step advantages [B, G, E] as training makes them, by its own function.

    With Phi read at every boundary, also before the first step.
    """
    credit = credit_batch(
        group_reading(found), jax.tree.map(jnp.asarray, found.spans), rollout, jnp.bool_(True),
        rule=CreditConfig(), max_other=COUNTERFACTUAL.max_other,
    )  # fmt: skip
    known = found.mask & ~np.isnan(found.effect)
    return tuple(np.where(known, x, np.nan) for x in (credit.gated, credit.step_advantage))


def group_reading(found: Analysis) -> GroupReading:
    """What an analysis has read, as training has it from its macro-steps: [B, G, ...]."""
    return GroupReading(
        outcome=jnp.asarray(np.nan_to_num(found.outcome), jnp.float32),
        scorable=jnp.asarray(~np.isnan(found.outcome)),
        value=jnp.asarray(found.value[..., 1:], jnp.float32),
        factual=found.laws.factual,
        nuisance=found.laws.nuisance,
        content=found.laws.content,
        energy=jnp.zeros(found.mask.shape),  # of the latent: the credit `paper` alone reads it
        equivariance=jnp.asarray(found.equivariance, jnp.float32),
        start=jnp.asarray(found.value[..., 0], jnp.float32),
    )


def permuted(credit: np.ndarray, mask: np.ndarray, ids: np.ndarray, seed: int) -> np.ndarray:
    """Credits [B, G, E] in another order inside each trajectory: the placebo of step credit.

    The order is a function of (seed, question id, trajectory), not of the batch.

    Args: mask [B, G, E] bool, the steps that exist; ids [B] of the questions.
    """
    out = credit.copy()
    for b, g in np.ndindex(*mask.shape[:2]):
        kept = mask[b, g]
        rng = np.random.default_rng([seed, int(ids[b]), g, _PERMUTED])
        out[b, g, kept] = rng.permutation(credit[b, g, kept])
    return out


def observational(judged: Judged) -> np.ndarray:
    """Mean outcome of the sampled siblings whose step k states the same, minus the group's mean.

    The contrast that needs no intervention: siblings have other prefixes, so it mixes
    what a step does with what came before it.
    """
    out = np.full(judged.analysis.mask.shape, np.nan)
    for b, rows in enumerate(judged.texts):
        outcome = judged.traces.outcome[b]
        own = range(judged.sampled)
        mean = np.nanmean(outcome[: judged.sampled]) if judged.sampled else np.nan
        for g, steps in enumerate(rows):
            for k, step in enumerate(steps):
                same = [
                    outcome[j] for j in own if len(rows[j]) > k and claim(rows[j][k]) == claim(step)
                ]
                out[b, g, k] = np.nanmean(same) - mean if same else 0.0
    return out

"""The step-credit test: which score agrees with the checker's labels, without training.

AUC of each score against "this step is valid", over pairs of the same question and
the same step index; intervals by resampling questions. Beside it: the gain over
rivals, P(a sound step of a wrong trajectory outscores a flawed step of a lucky one),
the order invalid < filler < valid, and ProcessBench's F1 for the earliest error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gccpo_jax.analysis.process_bench import process_bench
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.analysis.step_statistics import (
    auc_gain,
    mean_by_label,
    probability_outscores,
    stratified_auc,
)
from gccpo_jax.analysis.suites.rows import Rows, join, rows_of
from gccpo_jax.analysis.suites.trajectories import judged
from gccpo_jax.policy.step_scorer import StepScorer
from gccpo_jax.sampling.opened import Model
from gccpo_jax.tasks.base import Item

GAINERS = ("te_d", "credit")
RIVALS = ("outcome", "te_d", "observational", "logprob")
KINDS = ("invalid", "filler", "valid")
GAPS = ("filler - invalid", "valid - filler")
NEUTRAL = ("filler", "restatement", "copy", "irrelevant", "unneeded")
IN_TABLES = ("te_d", "te_phi", "ir_d", "robustness", "selectivity", "outcome", "logprob", "credit")
IN_TABLES += ("tts", "prm")


def collect_rows(
    model: Model,
    batches: Iterable[Sequence[Item]],
    settings: Settings,
    *,
    group: int,
    injected: int,
    prompt_tokens: int,
    scorer: StepScorer | None = None,
) -> tuple[Rows, list[float]]:
    """Rows of all questions, and the reader's gate of each batch."""
    parts, gates = [], []
    for chosen in batches:
        found = judged(
            model,
            chosen,
            settings,
            group=group,
            injected=injected,
            prompt_tokens=prompt_tokens,
            scorer=scorer,
        )
        parts.append(rows_of(found, settings.seed))
        gates.append(found.analysis.gate)
    return join(parts), gates


def summarise(rows: Rows, gates: Sequence[float]) -> dict:
    """Everything the report shows, as a JSON-able dictionary.

    `auc` is over all steps, valid against every other label; the other tables say what
    it is over.
    """
    valid = rows.label == "valid"
    sound = rows.where(rows.sound_before)
    errors = rows.where(valid | rows.wrong)
    own = rows.where(~rows.injected)
    return {
        "auc": _aucs(rows),
        "auc_sound_prefix": _aucs(sound),
        "auc_wrong_only": _aucs(errors),
        "auc_sampled_only": _aucs(own),
        "gain": {
            name: {rival: _gain(rows, name, rival) for rival in RIVALS if rival != name}
            for name in GAINERS
        },
        "outscores": _outscores(rows),
        "means": _means(rows),
        "process_bench": _process_bench(rows),
        "reader": {"gate": float(np.mean(gates)), "correlation_ir_te": _correlation(rows)},
        "counts": _counts(rows),
    }


def _tabled(rows: Rows) -> list[str]:
    return [name for name in IN_TABLES if name in rows.scores]


def _aucs(rows: Rows) -> dict[str, dict]:
    valid = rows.label == "valid"
    return {
        name: stratified_auc(x, valid, rows.question, rows.step).plain()
        for name, x in rows.scores.items()
    }


def _gain(rows: Rows, name: str, rival: str) -> dict:
    valid = rows.label == "valid"
    x, other = rows.scores[name], rows.scores[rival]
    return auc_gain(x, other, valid, rows.question, rows.step).plain()


def _outscores(rows: Rows) -> dict[str, dict]:
    """Sound steps of trajectories with a wrong answer against wrong steps of right ones."""
    sound_wrong = (rows.label == "valid") & rows.sound_before & (rows.outcome == 0)
    flawed_lucky = rows.wrong & (rows.outcome == 1)
    out = {}
    for name in _tabled(rows):
        found = probability_outscores(
            rows.scores[name], sound_wrong, flawed_lucky, rows.question, rows.step
        )
        out[name] = found.interval.plain() | {"pairs": found.pairs_within + found.pairs_across}
    return out


def _means(rows: Rows) -> dict[str, dict]:
    """Mean of each score by kind of step; of steps with a sound prefix."""
    rows = rows.where(rows.sound_before)
    kind = np.where(rows.wrong, "invalid", rows.label.astype(str))
    kind = np.where(np.isin(kind, NEUTRAL), "filler", kind)
    out = {}
    for name in _tabled(rows):
        found = mean_by_label(rows.scores[name], kind, rows.question, KINDS)
        means = {label: x.plain() for label, x in zip(KINDS, found.means, strict=True)}
        gaps = {name: x.plain() for name, x in zip(GAPS, found.gaps, strict=True)}
        out[name] = {"means": means, "gaps": gaps}
    return out


def _process_bench(rows: Rows) -> dict[str, dict]:
    """F1 of the earliest error, of the policy's own trajectories."""
    rows = rows.where(~rows.injected)
    keys = rows.question.astype(np.int64) * 1024 + rows.trajectory
    order = np.lexsort((rows.step, keys))
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    groups = [group for group in np.split(order, cuts) if group.size]
    wrong = [rows.wrong[g] for g in groups]
    truth = [int(np.argmax(x)) if x.any() else -1 for x in wrong]
    question = np.array([rows.question[g[0]] for g in groups])
    out = {}
    for name in _tabled(rows):
        scores = [rows.scores[name][g] for g in groups]
        found, _ = process_bench(scores, truth, question)
        out[name] = {
            "f1": found.f1.plain(),
            "error": found.error_accuracy.plain(),
            "correct": found.correct_accuracy.plain(),
        }
    return out


def _correlation(rows: Rows) -> float | None:
    """Spearman's correlation of the scored with the continued effect: is IR causal evidence?"""
    from scipy import stats

    x, y = rows.scores["ir_d"], rows.scores["te_d"]
    both = ~np.isnan(x) & ~np.isnan(y)
    if both.sum() < 3 or np.ptp(x[both]) == 0 or np.ptp(y[both]) == 0:
        return None
    return float(stats.spearmanr(x[both], y[both]).statistic)


def _counts(rows: Rows) -> dict:
    labels, counts = np.unique(rows.label.astype(str), return_counts=True)
    trajectories = np.unique(rows.question.astype(np.int64) * 1024 + rows.trajectory)
    return {
        "questions": len(np.unique(rows.question)),
        "trajectories": len(trajectories),
        "steps": len(rows.step),
        "labels": {str(k): int(n) for k, n in zip(labels, counts, strict=True)},
        "undefined": {name: int(np.isnan(rows.scores[name]).sum()) for name in rows.scores},
    }

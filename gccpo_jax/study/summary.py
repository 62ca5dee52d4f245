"""From raw results to numbers: accuracies, contrasts, aggregates, curves; all with intervals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gccpo_jax.statistics.shares import mcnemar
from gccpo_jax.study.aggregates import iqm, probability_of_improvement
from gccpo_jax.study.plan import comparisons
from gccpo_jax.study.results import Results, Run, at_the_end, paired
from gccpo_jax.study.statistics import Contrast, contrast, holm

_RESAMPLES = 4000
_OF_CURVES = 1000


def summarise(results: Results) -> dict[str, Any]:
    """Everything that the page and the plots show, fit for JSON.

    `contrasts` is at equal tokens where the study has that comparison, and
    `contrasts_at_equal_updates` stands beside it.
    """
    study = results.study
    last = list(results.ends)[-1]
    return {
        "method": study.method,
        "arms": study.arms,
        "seeds": list(study.seeds),
        "confirmation_seeds": list(study.seeds) if study.confirms else [],
        "compared_at": last,
        "in_distribution": study.in_distribution,
        "primary": [split for split in study.primary if split in results.templates],
        "families": families(results),
        "cost": {name: _cost(results, name) for name in results.ends},
        "accuracy": {name: _accuracies(results, name) for name in results.ends},
        "iqm": {name: _iqm(results, name) for name in results.ends},
        "contrasts": contrasts(results, last),
        "contrasts_at_equal_updates": contrasts(results, "equal updates"),
        "mcnemar": _mcnemar(results, last),
        "curves": {arm: _curve(results, last, arm) for arm in study.arms},
    }


def families(results: Results) -> list[str]:
    """Splits in the order of tables: in distribution, primary, the others by name."""
    study = results.study
    first = [study.in_distribution, *study.primary]
    known = [split for split in first if split in results.templates]
    return known + sorted(set(results.templates) - set(known))


def contrasts(results: Results, comparison: str) -> dict[str, dict[str, dict[str, Any]]]:
    """{"method-A0": {family: {estimate, low, high, p, ...}}}; `p_holm` is over the families."""
    found = {}
    for name, (first, second) in comparisons(results.study).items():
        rows = {
            split: _contrast(results, comparison, first, second, split)
            for split in families(results)
        }
        adjusted = holm([row["p"] for row in rows.values()])
        found[name] = {
            split: {**row, "p_holm": p}
            for (split, row), p in zip(rows.items(), adjusted, strict=True)
        }
    return found


def _contrast(
    results: Results, comparison: str, first: str, second: str, split: str
) -> dict[str, Any]:
    arms = (at_the_end(results, comparison, arm, split) for arm in (first, second))
    (a, b), templates = paired(*arms, templates=results.templates[split])
    better = probability_of_improvement(a.mean(1, keepdims=True), b.mean(1, keepdims=True))
    return {
        **dataclasses.asdict(contrast(a, b, templates, resamples=_RESAMPLES)),
        "probability_of_improvement": better.estimate,
        "probability_low": better.low,
        "probability_high": better.high,
    }


def _accuracies(results: Results, comparison: str) -> dict[str, dict[str, dict[str, float]]]:
    """{arm: {family: {estimate, low, high, before}}}, primary families also by wording."""
    found: dict[str, dict] = {}
    for arm in results.study.arms:
        runs = [results.ends[comparison][arm][seed] for seed in results.study.seeds]
        rows = {}
        for split in families(results):
            after = at_the_end(results, comparison, arm, split)
            before = np.stack([results.scores[run][0][split] for run in runs])
            for name, where in _parts(results, split).items():
                (a, b), templates = paired(
                    after[:, where],
                    before[:, where],
                    templates=np.array(results.templates[split])[where].tolist(),
                )
                rows[name] = {**_interval(_alone(a, templates)), "before": float(b.mean())}
        found[arm] = rows
    return found


def _parts(results: Results, split: str) -> dict[str, np.ndarray]:
    """{name: which items}: the split, and each wording of a primary one that has several.

    A template is named "<wording>/<rest>".
    """
    templates = results.templates[split]
    parts = {split: np.arange(len(templates))}
    wordings = sorted({name.partition("/")[0] for name in templates})
    if split in results.study.primary and len(wordings) > 1:
        of_items = np.array([name.partition("/")[0] for name in templates])
        parts |= {f"{split}, wording {w}": np.flatnonzero(of_items == w) for w in wordings}
    return parts


def _alone(scores: np.ndarray, templates: list[str], resamples: int = _RESAMPLES) -> Contrast:
    """One arm's accuracy: the contrast with a policy that is always wrong."""
    return contrast(scores, np.zeros_like(scores), templates, resamples=resamples)


def _interval(found: Contrast) -> dict[str, float]:
    """An accuracy's interval, inside [0, 1]."""
    low, high = np.clip([found.low, found.high], 0.0, 1.0)
    return {"estimate": found.estimate, "low": float(low), "high": float(high)}


def _cost(results: Results, comparison: str) -> dict[str, dict[str, float]]:
    """{arm: mean updates and forward tokens of a seed}."""
    found = {}
    for arm in results.study.arms:
        runs = list(results.ends[comparison][arm].values())
        found[arm] = {
            "updates": float(np.mean([updates for _, _, updates in runs])),
            "tokens": float(np.mean([results.tokens[run][-1] for run in runs])),
        }
    return found


def _iqm(results: Results, comparison: str) -> dict[str, dict[str, dict[str, float]]]:
    """{arm: {"primary", "others"}}: interquartile mean over seeds and families."""
    study = results.study
    known = [split for split in families(results) if split != study.in_distribution]
    groups = {
        "primary": [split for split in known if split in study.primary],
        "others": [split for split in known if split not in study.primary],
    }
    found: dict[str, dict] = {}
    for arm in study.arms:
        found[arm] = {}
        for name, splits in groups.items():
            if splits:
                ends = [at_the_end(results, comparison, arm, split) for split in splits]
                scores = np.stack([np.nanmean(x, axis=1) for x in ends], axis=1)
                found[arm][name] = dataclasses.asdict(iqm(scores))
    return found


def _mcnemar(results: Results, comparison: str) -> dict[str, dict[str, dict[str, dict]]]:
    """{contrast: {primary family: {seed: ...}}} of last checkpoints; outcomes above 1/2 count."""
    found: dict[str, dict] = {}
    for name, (first, second) in comparisons(results.study).items():
        found[name] = {}
        for split in families(results):
            if split not in results.study.primary:
                continue
            arms = (at_the_end(results, comparison, arm, split) for arm in (first, second))
            (a, b), _ = paired(*arms, templates=results.templates[split])
            found[name][split] = {
                str(seed): dataclasses.asdict(mcnemar(x > 0.5, y > 0.5))
                for seed, x, y in zip(results.study.seeds, a, b, strict=True)
            }
    return found


def _curve(results: Results, comparison: str, arm: str) -> list[dict[str, Any]]:
    """Accuracies at every checkpoint that all seeds have, and at the last ones."""
    study = results.study
    runs = [results.ends[comparison][arm][seed] for seed in study.seeds]
    common = set.intersection(*(set(results.scores[run]) for run in runs))
    curves = (study.in_distribution, *study.primary, "label_right")
    shown = [split for split in families(results) if split in curves]
    inside = sorted(step for step in common if all(step < run[2] for run in runs))
    places = [[step] * len(runs) for step in inside] + [[run[2] for run in runs]]
    return [_point(results, runs, steps, shown) for steps in places]


def _point(results: Results, runs: list[Run], steps: list[int], shown: list[str]) -> dict[str, Any]:
    spent = [results.tokens[run][n - 1] if n else 0.0 for run, n in zip(runs, steps, strict=True)]
    point: dict[str, Any] = {"updates": float(np.mean(steps)), "tokens": float(np.mean(spent))}
    point["families"] = {}
    for split in shown:
        scores = [results.scores[run][step][split] for run, step in zip(runs, steps, strict=True)]
        (a,), templates = paired(np.stack(scores), templates=results.templates[split])
        point["families"][split] = _interval(_alone(a, templates, _OF_CURVES))
    return point

"""What control arms put in the place of the gated effect, in float64 and literal loops."""

from __future__ import annotations

import math

from tests.helpers import oracles
from tests.helpers import oracles_credit as credit


def readable(row, k, max_other):
    return row["factual"][k][-1] <= max_other


def siblings(rows, i, k, max_other):
    """Indices of other trajectories whose law after their step k can be read beside i's."""
    if not readable(rows[i], k, max_other):
        return []
    return [
        j
        for j, row in enumerate(rows)
        if j != i and k < len(row["steps"]) and readable(row, k, max_other)
    ]


def observational(group, gate=True, gate_answer=True, max_other=0.2):
    rows, base = credit.scored(group), credit.base_value(group)
    values, robust = [], []
    for i, row in enumerate(rows):
        values.append([])
        robust.append([])
        for k in range(len(row["steps"])):
            beside = siblings(rows, i, k, max_other)
            apart = {j: oracles.jsd(row["factual"][k], rows[j]["factual"][k]) for j in beside}
            robust[i].append(1 - credit.mean(list(apart.values())) if beside else None)
            total = sum(1 - d for d in apart.values())
            found = sum((1 - apart[j]) * rows[j]["outcome"] for j in beside)
            values[i].append(found / total if total > 0 else base)
    filled = credit.fill(robust, 1.0)
    return [
        oracles.gated_effects(credit.step_effects({**row, "phi": phi}, base), r, gate, gate_answer)
        for row, phi, r in zip(rows, values, filled, strict=True)
    ]


def entropy(law):
    return -sum(p * math.log(p) for p in law if p > 0) / math.log(len(law))


def non_causal(group, max_other=0.2):
    rows = credit.scored(group)
    scores = []
    for i, row in enumerate(rows):
        scores.append([])
        for k in range(len(row["steps"])):
            beside = siblings(rows, i, k, max_other)
            if not beside:
                scores[i].append(None)
                continue
            laws = [rows[j]["factual"][k] for j in [i, *beside]]
            variance = 0.0
            for a in range(len(laws[0])):
                middle = sum(law[a] for law in laws) / len(laws)
                variance += sum((law[a] - middle) ** 2 for law in laws) / len(laws)
            scores[i].append((1 - variance) * entropy(row["factual"][k]))
    return with_outcome(group, credit.fill(scores, 1.0))


def robustness(group, max_other=0.2):
    return with_outcome(group, credit.robust_steps(group, max_other))


def effect_size(group, max_other=0.2):
    base = credit.base_value(group)
    rows = [[abs(d) for d in credit.step_effects(row, base)] for row in credit.scored(group)]
    return with_outcome(group, rows)


def selectivity(group, max_other=0.2):
    return with_outcome(group, credit.fill(credit.selective_steps(group, max_other), 1.0))


def with_outcome(group, scores):
    """The last step has the outcome over the group's mean."""
    base = credit.base_value(group)
    return [
        [*row_scores[:-1], row["outcome"] - base]
        for row, row_scores in zip(credit.scored(group), scores, strict=True)
    ]


def by_equivariance(group, gate_answer=True, max_other=0.2):
    """The method's gated effect with R_k Eq in the place of R_k."""
    rows, base = credit.scored(group), credit.base_value(group)
    (follows,) = credit.fill([[row["eq"] for row in rows]], 1.0)
    robust = credit.robust_steps(group, max_other)
    return [
        oracles.gated_effects(
            credit.step_effects(row, base), [x * eq for x in r], True, gate_answer
        )
        for row, r, eq in zip(rows, robust, follows, strict=True)
    ]


def discounted(group, terms, lam=0.95, t0=10.0, token_weights="uniform"):
    """Token advantages from what each step earns: discounted, minus the other trajectories'."""
    rows = credit.scored(group)
    sums = [
        oracles.discounted(term, [end - start for start, end in row["steps"]], lam, t0)
        for row, term in zip(rows, terms, strict=True)
    ]
    pairs = zip(rows, credit.minus_others(sums), strict=True)
    return credit.for_all(group, [credit.on_tokens(row, x, token_weights) for row, x in pairs])


def of_term(term, **options):
    """A credit of a group: `term(group, **options)`, discounted."""
    return lambda group: discounted(group, term(group, **options))


def l2t(group, alpha=0.8, **options):
    base = credit.base_value(group)
    rows = [
        (row["steps"], row["logp"], credit.step_effects(row, base), row["outcome"])
        for row in credit.scored(group)
    ]
    return credit.for_all(group, credit.paper_from_process(rows, alpha, **options)[3])

"""Scores and credits of the method in float64 and literal loops; nothing shared with the package.

A group is a list of trajectories. A trajectory is a dict:

    outcome   float, or None where it could not be scored
    steps     [(start, end)] of tokens        logp    one number a token
    phi       value after each step           energy  one number a step
    factual   a law a step                    nuisance, content  per step a list of laws,
                                              None for an arm that did not take place

None stands for "undefined" everywhere, never 0.
"""

from __future__ import annotations

import math
import statistics

import numpy as np

from tests.helpers import oracles

# Scores of a step.


def mean(values):
    return sum(values) / len(values) if len(values) else None


def divergence(factual, arms):
    """Mean JSD/ln 2 over the arms that took place."""
    return mean([oracles.jsd(factual, law) for law in arms if law is not None])


def robustness(factual, arms):
    moved = divergence(factual, arms)
    return None if moved is None else 1 - moved


def selectivity(factual, nuisance, content):
    robust, sensitive = robustness(factual, nuisance), divergence(factual, content)
    return None if robust is None or sensitive is None else robust * sensitive


def agreement(answers, arms):
    """answers: one a draw; arms: lists of answers, None for an arm that did not take place."""
    pairs = []
    for arm in arms:
        if arm is not None:
            pairs += [(a, b) for a, b in zip(answers, arm, strict=True) if a >= 0 and b >= 0]
    return mean([1.0 if a == b else 0.0 for a, b in pairs])


def flip_bounds(p, q):
    """Smallest and largest probability of two different answers over all couplings."""
    certain = max(a + b - 1 for a, b in zip(p, q, strict=True))
    return oracles.total_variation(p, q), 1 - max(0.0, certain)


def counterfactual_effect(value, values):
    others = [v for v in values if v is not None]
    return None if not others else value - sum(others) / len(others)


def law_variation(laws):
    if not laws:
        return 0.0
    middle = [sum(law[a] for law in laws) / len(laws) for a in range(len(laws[0]))]
    return mean([oracles.jsd(law, middle) for law in laws])


def trajectory_scores(before, factual, gold, nuisance, content, baseline, max_other):
    """Per step a dict of value, effect, robustness, sensitivity, selectivity, counterfactual."""
    readable = [law[-1] <= max_other for law in factual]
    candidates = len(before) - 1
    has_gold = 0 <= gold < candidates
    phi = [
        law[gold] if has_gold and ok else None for law, ok in zip(factual, readable, strict=True)
    ]
    start = before[gold] if has_gold and before[-1] <= max_other else None
    out = []
    for k in range(len(factual)):
        earlier = start if k == 0 else phi[k - 1]
        row = dict.fromkeys(
            ["value", "effect", "robustness", "sensitivity", "selectivity", "counterfactual"]
        )
        row["value"] = phi[k]
        if phi[k] is not None and earlier is not None:
            row["effect"] = phi[k] - earlier
        if readable[k]:
            row["robustness"] = robustness(factual[k], nuisance[k])
            row["sensitivity"] = divergence(factual[k], content[k])
            row["selectivity"] = selectivity(factual[k], nuisance[k], content[k])
            if has_gold:
                under = [None if law is None else law[gold] for law in baseline[k]]
                row["counterfactual"] = counterfactual_effect(phi[k], under)
        out.append(row)
    return out


# A group: scores first, then the credits.


def scored(group):
    return [row for row in group if row["outcome"] is not None]


def base_value(group):
    return mean([row["outcome"] for row in scored(group)])


def step_effects(row, base):
    return oracles.effects([base, *row["phi"][:-1]], row["outcome"]) if row["steps"] else []


def fill(rows, fallback):
    """Undefined entries of a list of lists by the median of the defined ones of all of them."""
    known = [x for row in rows for x in row if x is not None]
    middle = statistics.median(known) if known else fallback
    return [[middle if x is None else x for x in row] for row in rows]


def step_laws(row, max_other, family):
    """(factual, arms) of each step, or None where its law cannot be read."""
    pairs = zip(row["factual"], row[family], strict=True)
    return [None if law[-1] > max_other else (law, arms) for law, arms in pairs]


def robust_steps(group, max_other, score=robustness, fallback=1.0):
    rows = []
    for row in scored(group):
        read = step_laws(row, max_other, "nuisance")
        rows.append([None if each is None else score(*each) for each in read])
    return fill(rows, fallback)


def selective_steps(group, max_other):
    rows = []
    for row in scored(group):
        read = zip(step_laws(row, max_other, "nuisance"), row["content"], strict=True)
        rows.append(
            [None if one is None else selectivity(one[0], one[1], content) for one, content in read]
        )
    return rows


def gated_steps(group, gate=True, gate_answer=True, max_other=0.2):
    base = base_value(group)
    robust = robust_steps(group, max_other)
    return [
        oracles.gated_effects(step_effects(row, base), r, gate, gate_answer)
        for row, r in zip(scored(group), robust, strict=True)
    ]


def minus_others(rows):
    """Each entry minus the mean of the same index of the other rows that have it."""
    out = []
    for i, row in enumerate(rows):
        out.append([])
        for k, x in enumerate(row):
            others = [rows[j][k] for j in range(len(rows)) if j != i and k < len(rows[j])]
            out[i].append(x - (sum(others) / len(others) if others else 0.0))
    return out


def outcome_scalars(group, baseline="leave_one_out", ddof=1, epsilon=1e-4):
    outcomes = [row["outcome"] for row in scored(group)]
    return group_scalars(outcomes, baseline, ddof, epsilon)


def group_scalars(rewards, baseline, ddof=1, epsilon=1e-4):
    every = [True] * len(rewards)
    if baseline == "zscore":
        return oracles.zscore(rewards, every, ddof, epsilon)
    return oracles.leave_one_out(rewards, every)


def on_tokens(row, per_step, token_weights="uniform"):
    """One number a token of the trajectory."""
    out = [0.0] * len(row["logp"])
    for (start, end), x in zip(row["steps"], per_step, strict=True):
        weights = [1.0] * (end - start)
        if token_weights == "surprise":
            weights = surprise(row["logp"][start:end])
        for t, w in zip(range(start, end), weights, strict=True):
            out[t] = x * w
    return out


def surprise(logp):
    """Weights with mean 1 in proportion to -log p; all 1 where that is 0/0."""
    total = sum(-x for x in logp)
    return [-x * len(logp) / total if total > 0 else 1.0 for x in logp]


def for_all(group, rows):
    """Token advantages of the whole group: 0 for trajectories that could not be scored."""
    rows = iter(rows)
    return [[0.0] * len(row["logp"]) if row["outcome"] is None else next(rows) for row in group]


def outcome_only(group, **options):
    scalars = outcome_scalars(group, **options)
    rows = [[a] * len(row["logp"]) for row, a in zip(scored(group), scalars, strict=True)]
    return for_all(group, rows)


def gated_gae(group, lam=0.95, t0=10.0, token_weights="uniform", **gate):
    discounted = []
    for row, gated in zip(scored(group), gated_steps(group, **gate), strict=True):
        tokens = [end - start for start, end in row["steps"]]
        discounted.append(oracles.discounted(gated, tokens, lam, t0))
    rows = minus_others(discounted)
    pairs = zip(scored(group), rows, strict=True)
    return for_all(group, [on_tokens(row, x, token_weights) for row, x in pairs])


def additive(group, weight=0.5, token_weights="uniform", gate=True, gate_answer=True, **baseline):
    scalars = outcome_scalars(group, **baseline)
    streams = minus_others(gated_steps(group, gate, gate_answer))
    rows = []
    for row, a, stream in zip(scored(group), scalars, streams, strict=True):
        clipped = [max(-1.0, min(1.0, x)) for x in stream]
        rows.append([a + weight * x for x in on_tokens(row, clipped, token_weights)])
    return for_all(group, rows)


def step_weights(scores, tokens, floor):
    """In proportion to floor + Q, with token mean 1."""
    raw = [floor + q for q in scores]
    total = sum(r * n for r, n in zip(raw, tokens, strict=True))
    return [r * sum(tokens) / total if total > 0 else 1.0 for r in raw]


def selective(group, floor=0.1, token_weights="uniform", max_other=0.2, **baseline):
    scalars = outcome_scalars(group, **baseline)
    filled = fill(selective_steps(group, max_other), 1.0)
    rows = []
    for row, a, q in zip(scored(group), scalars, filled, strict=True):
        weights = step_weights(q, [end - start for start, end in row["steps"]], floor)
        rows.append(on_tokens(row, [a * w for w in weights], token_weights))
    return for_all(group, rows)


def four_corner_reward(o, q, a=0.25, b=0.5):
    return o * (a + (1 - a) * q) + (1 - o) * b * q


def soundness(row, q):
    """Mean over the tokens of the steps that have a Q."""
    per_token = []
    for (start, end), x in zip(row["steps"], q, strict=True):
        if x is not None:
            per_token += [x] * (end - start)
    return mean(per_token)


def four_corner(group, a=0.25, b=0.5, max_other=0.2):
    pairs = list(zip(scored(group), selective_steps(group, max_other), strict=True))
    sound = [x for (x,) in fill([[soundness(row, q)] for row, q in pairs], 1.0)]
    rewards = [
        four_corner_reward(row["outcome"], q, a, b)
        for row, q in zip(scored(group), sound, strict=True)
    ]
    scalars = group_scalars(rewards, "leave_one_out")
    rows = [[x] * len(row["logp"]) for row, x in zip(scored(group), scalars, strict=True)]
    return for_all(group, rows)


# The reconstruction of the paper.


def paper_robustness(factual, arms, floor=1e-8):
    kls = []
    for law in arms:
        if law is not None:
            floored = [max(x, floor) for x in law]
            kls.append(max(oracles.kl(factual, floored), 0.0))
    return math.exp(-mean(kls)) if kls else None


def paper_effectiveness(energy):
    """energy: a list of lists over the group."""
    scale = mean([x for row in energy for x in row])
    ratio = [[x / scale if scale else 0.0 for x in row] for row in energy]
    return [[x / (1 + x) for x in row] for row in ratio]


def paper_token_rewards(steps, logp, process, outcome, alpha):
    """r_out / K + alpha r_k, shared in a step in proportion to -log p."""
    out = []
    for (start, end), r in zip(steps, process, strict=True):
        episode = outcome / len(steps) + alpha * r
        out += [episode * w / (end - start) for w in surprise(logp[start:end])]
    return out


def truncated_mean(values, truncation):
    cut = int(truncation * len(values) + 1e-9)
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept) if kept else 0.0


def back_map(advantage, rewards, score, floor, clip):
    if not any(rewards):
        return [max(-clip, min(clip, advantage)) for _ in rewards]
    divisor = max(abs(score), floor) * (-1 if score < 0 else 1)
    return [max(-clip, min(clip, advantage * r / divisor)) for r in rewards]


def paper_from_process(
    trajectories, alpha, truncation=0.025, ddof=1, epsilon=1e-4, floor=1e-4, clip=5.0
):
    """trajectories: (steps, logp, process, outcome). Returns r, rt, A and A_t as lists."""
    rewards = [paper_token_rewards(*each, alpha) for each in trajectories]
    scores = [truncated_mean(r, truncation) for r in rewards]
    scalars = group_scalars(scores, "zscore", ddof, epsilon)
    tokens = [
        back_map(a, r, s, floor, clip) for a, r, s in zip(scalars, rewards, scores, strict=True)
    ]
    return rewards, scores, scalars, tokens


def paper(group, alpha=0.9, weight=0.8, max_other=0.2, **options):
    robust = robust_steps(group, max_other, paper_robustness, fallback=0.0)
    effective = paper_effectiveness([row["energy"] for row in scored(group)])
    trajectories = []
    for row, rob, eff in zip(scored(group), robust, effective, strict=True):
        process = [r + weight * e for r, e in zip(rob, eff, strict=True)]
        trajectories.append((row["steps"], row["logp"], process, row["outcome"]))
    return for_all(group, paper_from_process(trajectories, alpha, **options)[3])


def softmax(x):
    e = np.exp(np.asarray(x, np.float64) - np.max(x))
    return e / e.sum()

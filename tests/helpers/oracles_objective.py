"""Losses in float64 NumPy and plain loops, sharing no code with the package.

Tokens of one response are a list of numbers, a batch is a list of responses;
nothing is masked, since a list ends where the response ends.
"""

from __future__ import annotations

import math

import numpy as np


def surrogate(w, a, low, high, dual=None) -> float:
    j = min(w * a, max(1 - low, min(1 + high, w)) * a)
    if dual is not None and a < 0:
        j = max(j, dual * a)
    return j


def two_sided(w, a, low, high, delta) -> float:
    """INTELLECT-2: the unclipped branch sees min(w, delta)."""
    return min(min(w, delta) * a, max(1 - low, min(1 + high, w)) * a)


def sequence_ratio(log_ratios) -> float:
    product = 1.0
    for x in log_ratios:
        product *= math.exp(x)
    return product ** (1 / len(log_ratios))


def kl_value(d, estimator) -> float:
    if estimator == "k1":
        return -d
    if estimator == "k2":
        return d * d / 2
    return math.exp(d) - d - 1


def reduce(rows, reduction, limit) -> float:
    rows = [row for row in rows if len(row)]
    if not rows:
        return 0.0
    if reduction == "token_mean":
        return sum(sum(row) for row in rows) / sum(len(row) for row in rows)
    if reduction == "seq_mean_token_mean":
        return sum(sum(row) / len(row) for row in rows) / len(rows)
    if reduction == "seq_mean_token_sum":
        return sum(sum(row) for row in rows) / len(rows)
    return sum(sum(row) for row in rows) / (len(rows) * limit)


def loss(
    logp, old, ref, adv, entropy, weight, *, loss, frozen, low=0.2, high=0.2, dual=None,
    cap=1.28, beta=0.0, kl="k3", correction=False, bonus=0.0, reduction="token_mean", limit=8,
):  # fmt: skip
    """`frozen` is where stop-gradients were taken: logp itself for a value, fixed for a slope."""
    out = []
    for i in range(len(logp)):
        row = []
        for t in range(len(logp[i])):
            w = math.exp(logp[i][t] - old[i][t])
            w0 = math.exp(frozen[i][t] - old[i][t])
            a = adv[i][t]
            if loss == "ppo":
                j = surrogate(w, a, low, high, dual)
            elif loss == "gspo":
                s = sequence_ratio([x - y for x, y in zip(logp[i], old[i], strict=True)])
                j = surrogate(s, a, low, high, dual)
            elif loss == "gspo_token":
                s = sequence_ratio([x - y for x, y in zip(frozen[i], old[i], strict=True)])
                j = surrogate(s * math.exp(logp[i][t] - frozen[i][t]), a, low, high, dual)
            elif loss == "cispo":
                j = min(w0, cap) * a * logp[i][t]
            j *= weight[i][t]
            d, d0 = ref[i][t] - logp[i][t], ref[i][t] - frozen[i][t]
            if kl == "k3_k2":
                penalty = kl_value(d0, "k3") + kl_value(d, "k2") - kl_value(d0, "k2")
            else:
                penalty = kl_value(d, kl)
            if correction:
                penalty *= w0 if kl in ("k2", "k3_k2") else w
            row.append(-(j - beta * penalty + bonus * entropy[i][t]))
        out.append(row)
    return reduce(out, reduction, limit)


def gvpo(logp, old, reward, beta) -> float:
    """One question; logp and old are sums over tokens."""
    k = len(reward)
    a = [beta * (x - y) for x, y in zip(logp, old, strict=True)]
    mean_a, mean_r = sum(a) / k, sum(reward) / k
    return sum(((a[i] - mean_a) - (reward[i] - mean_r)) ** 2 for i in range(k)) / (2 * (k - 1))


def gvpo_slope(logp, old, reward, beta) -> list[float]:
    """The paper's gradient by each log pi(y_i): an expression of its own."""
    k = len(reward)
    lr = [x - y for x, y in zip(logp, old, strict=True)]
    mean_l, mean_r = sum(lr) / k, sum(reward) / k
    return [-beta / (k - 1) * ((reward[i] - mean_r) - beta * (lr[i] - mean_l)) for i in range(k)]


def sampler_weights(trainer, sampler, mode, low, high) -> list[float]:
    """Of one response."""
    rho = [math.exp(x - y) for x, y in zip(trainer, sampler, strict=True)]
    product = math.prod(rho)
    keep = lambda x, value: value if low <= x <= high else 0.0  # noqa: E731
    if mode == "token_truncate":
        return [min(x, high) for x in rho]
    if mode == "token_mask":
        return [keep(x, x) for x in rho]
    if mode == "sequence_truncate":
        return [min(product, high)] * len(rho)
    if mode == "sequence_mask":
        return [keep(product, product)] * len(rho)
    return [keep(product ** (1 / len(rho)), 1.0)] * len(rho)


def slopes(f, rows, step=1e-6) -> list[np.ndarray]:
    """Central differences of f by each number of ragged rows."""
    out = []
    for i, row in enumerate(rows):
        found = np.zeros(len(row))
        for t in range(len(row)):
            ends = []
            for sign in (1, -1):
                moved = [list(r) for r in rows]
                moved[i][t] += sign * step
                ends.append(f(moved))
            found[t] = (ends[0] - ends[1]) / (2 * step)
        out.append(found)
    return out

"""The equations in float64 NumPy and plain loops, sharing no code with the package.

Slow and literal on purpose: a reader should be able to check each function
against its formula at a glance. Laws are vectors of probabilities; a group is a
list of trajectories; steps are (start, end) pairs of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

# Scores of steps.


def kl(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def jsd(p: Sequence[float], q: Sequence[float]) -> float:
    mixture = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kl(p, mixture) + kl(q, mixture)) / 2 / math.log(2)


def total_variation(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2


def robustness(factual, perturbed, usable) -> float | None:
    """1 - mean JSD over the usable arms; None where there is none."""
    values = [jsd(factual, law) for law, use in zip(perturbed, usable, strict=True) if use]
    return 1 - sum(values) / len(values) if values else None


def effects(phi: Sequence[float], outcome: float) -> list[float]:
    """phi[k] is the value before step k; the last effect ends in the outcome."""
    after = [*phi[1:], outcome]
    return [b - a for a, b in zip(phi, after, strict=True)]


def gated_effects(effect, robust, gate=True, gate_answer=True) -> list[float]:
    out = []
    for k, d in enumerate(effect):
        gated = gate and d > 0 and (gate_answer or k < len(effect) - 1)
        out.append(robust[k] * d if gated else d)
    return out


# Advantages.


def discounted(gated, tokens, lam: float, t0: float) -> list[float]:
    out = []
    for k in range(len(gated)):
        terms = [lam ** (sum(tokens[k + 1 : j + 1]) / t0) * gated[j] for j in range(k, len(gated))]
        out.append(sum(terms))
    return out


def recentre(advantage, mask) -> np.ndarray:
    """[G, E]: each entry minus the mean of the same step of the other trajectories that have it."""
    out = np.zeros(np.shape(advantage))
    for i, k in np.argwhere(mask):
        others = [advantage[j][k] for j in range(len(mask)) if mask[j][k] and j != i]
        out[i, k] = advantage[i][k] - (np.mean(others) if others else 0.0)
    return out


def leave_one_out(reward, where) -> list[float]:
    out = []
    for i, used in enumerate(where):
        others = [reward[j] for j in range(len(where)) if where[j] and j != i]
        out.append(reward[i] - np.mean(others) if used and others else 0.0)
    return out


def zscore(reward, where, ddof: int, epsilon: float) -> list[float]:
    used = [r for r, w in zip(reward, where, strict=True) if w]
    if len(used) <= ddof or max(used) == min(used):
        return [0.0] * len(reward)
    mean, std = np.mean(used), np.std(used, ddof=ddof)
    return [(r - mean) / (std + epsilon) if w else 0.0 for r, w in zip(reward, where, strict=True)]


def surprise_weights(logp, spans, size: int) -> np.ndarray:
    out = np.zeros(size)
    for start, end in spans:
        surprise = [-logp[t] for t in range(start, end)]
        total = sum(surprise)
        for t in range(start, end):
            out[t] = -logp[t] * (end - start) / total if total > 0 else 1.0
    return out


# Objectives.


def surrogate(ratio: float, advantage: float, low: float, high: float) -> float:
    clipped = max(1 - low, min(1 + high, ratio))
    return min(ratio * advantage, clipped * advantage)


def k3(d: float) -> float:
    return math.exp(d) - d - 1


def reduce(x, mask, reduction: str, max_tokens: int | None = None) -> float:
    """Rows without a token are dropped."""
    rows = [[a for a, m in zip(*row, strict=True) if m] for row in zip(x, mask, strict=True)]
    rows = [row for row in rows if row]
    if not rows:
        return 0.0
    return {
        "token_mean": lambda: sum(map(sum, rows)) / sum(map(len, rows)),
        "seq_mean_token_mean": lambda: float(np.mean([np.mean(row) for row in rows])),
        "seq_mean_token_sum": lambda: float(np.mean([sum(row) for row in rows])),
        "seq_mean_token_sum_norm": lambda: sum(map(sum, rows)) / (len(rows) * max_tokens),
    }[reduction]()


def policy_loss(
    logp, behaviour, reference, advantage, mask, low, high, beta, reduction, max_tokens=None
) -> float:
    loss = np.zeros(np.shape(logp))
    for i, t in np.argwhere(mask):
        ratio = math.exp(logp[i][t] - behaviour[i][t])
        gain = surrogate(ratio, advantage[i][t], low, high)
        loss[i, t] = -(gain - beta * k3(reference[i][t] - logp[i][t]))
    return reduce(loss, mask, reduction, max_tokens)


# Steps.


def find_steps(boundary, length: int, max_steps: int, shortest=1, longest=0) -> list:
    steps, start = [], 0
    for t in range(length):
        count = t + 1 - start
        if (boundary[t] and count >= shortest) or (longest and count >= longest):
            steps.append((start, t + 1))
            start = t + 1
    if start < length:
        if length - start < shortest and steps:
            steps[-1] = (steps[-1][0], length)
        else:
            steps.append((start, length))
    if len(steps) > max_steps:
        steps = [*steps[: max_steps - 1], (steps[max_steps - 1][0], length)]
    return steps


def merge_steps(steps, keep) -> list:
    merged, start = [], 0
    for (_, end), kept in zip(steps, keep, strict=False):
        if kept:
            merged.append((start, end))
            start = end
    return merged


# Laws. `next_law(text)` is the law of the token after a text (a list of token ids).


def law(logits, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """Temperature, then top-k, then the nucleus of what is left; ties at a threshold stay."""
    logits = np.asarray(logits, np.float64)
    if temperature == 0:
        return np.eye(len(logits))[int(np.argmax(logits))]
    p = np.exp(logits / temperature - np.max(logits / temperature))
    p /= p.sum()
    if top_k:
        threshold = sorted(p, reverse=True)[min(top_k, len(p)) - 1]
        p = np.where(p >= threshold, p, 0.0)
        p /= p.sum()
    if top_p < 1:
        mass, threshold = 0.0, 0.0
        for threshold in sorted(p, reverse=True):
            mass += threshold
            if mass >= top_p:
                break
        p = np.where(p >= threshold, p, 0.0)
        p /= p.sum()
    return p


def entropy(p) -> float:
    return -sum(a * math.log(a) for a in p if a > 0)


def scored_law(
    next_law: Callable, text: list[int], candidates: list[list[int]], ends: tuple[int, ...] = (0,)
) -> np.ndarray:
    """Probability of each candidate and an end after the text (cue included), and of the rest."""
    law = []
    for candidate in candidates:
        p = 1.0
        for n, token in enumerate(candidate):
            p *= next_law([*text, *candidate[:n]])[token]
        law.append(p * sum(next_law([*text, *candidate])[end] for end in ends))
    return np.array([*law, 1 - sum(law)])


def continuations(next_law: Callable, text: list[int], stop: int, limit: int) -> dict:
    """Every continuation of up to `limit` tokens, which ends at `stop`, with its probability."""
    out, open_ = {}, {(): 1.0}
    for _ in range(limit):
        grown = {}
        for tokens, p in open_.items():
            for token, q in enumerate(next_law([*text, *tokens])):
                if q > 0:
                    target = out if token == stop else grown
                    target[(*tokens, token)] = p * q
        open_ = grown
    return {**out, **open_}

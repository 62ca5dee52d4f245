"""Advantages and shaped rewards of the literature in float64 and literal loops.

A group is a list; None stands for a trajectory or a step that does not count.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def known(values):
    return [x for x in values if x is not None]


def zscore(values, ddof=1, epsilon=1e-4):
    """None stays None; no contrast gives 0."""
    real = known(values)
    if len(real) <= ddof or max(real) == min(real):
        return [None if x is None else 0.0 for x in values]
    mean = sum(real) / len(real)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in real) / (len(real) - ddof))
    return [None if x is None else (x - mean) / (deviation + epsilon) for x in values]


def mean_only(values):
    real = known(values)
    return [None if x is None else x - sum(real) / len(real) for x in values]


def pass_at_k(right, k, epsilon=0.0):
    """By enumeration: the normalised best of every k-subset, averaged for each member."""
    members = [i for i, x in enumerate(right) if x is not None]
    out = [None if x is None else 0.0 for x in right]
    subsets = list(itertools.combinations(members, k))
    best = [max(right[i] for i in subset) for subset in subsets]
    if not subsets or min(best) == max(best):
        return out
    mean = sum(best) / len(best)
    deviation = math.sqrt(sum((b - mean) ** 2 for b in best) / len(best))
    for i in members:
        own = [
            (b - mean) / (deviation + epsilon)
            for b, subset in zip(best, subsets, strict=True)
            if i in subset
        ]
        out[i] = sum(own) / len(own)
    return out


def soft_overlong(length, limit, buffer):
    if length <= limit - buffer:
        return 0.0
    if length <= limit:
        return ((limit - buffer) - length) / buffer
    return -1.0


def length_penalised(rows, alpha):
    """rows: (outcome, length, finished), or None."""
    lengths = [n for row in rows if row for o, n, done in [row] if done and o > 0.5]
    out = []
    for row in rows:
        if row is None:
            out.append(None)
            continue
        outcome, length, finished = row
        if not finished:
            out.append(0.0)
        elif outcome <= 0.5:
            out.append(outcome)
        else:
            z = 0.0
            if max(lengths) > min(lengths):
                z = (length - np.mean(lengths)) / (np.std(lengths) + 1e-7)
            out.append(outcome * (1 - alpha / (1 + math.exp(-z))))
    return out


def gtpo_rewards(right, entropy, base=1.0, bonus=0.1, floor=1e-6):
    """entropy: a list of numbers a response; None for one that does not count."""
    out = []
    for i, row in enumerate(entropy):
        if row is None:
            out.append(None)
            continue
        out.append([])
        for t in range(len(row)):
            peers = [
                max(other[t], floor)
                for j, other in enumerate(entropy)
                if other is not None and right[j] == right[i] and len(other) > t
            ]
            own = max(row[t], floor)
            if right[i]:
                out[i].append(base + bonus * len(peers) * own / sum(peers))
            else:
                share = (1 / own) / sum(1 / h for h in peers)
                out[i].append(-base - bonus * len(peers) * share)
    return out


def gtpo(right, entropy, ddof=1, epsilon=1e-4, **options):
    rewards = gtpo_rewards(right, entropy, **options)
    streams = {}
    for side in (True, False):
        flat = [
            (r if bool(right[i]) == side else 0.0)
            for i, row in enumerate(rewards)
            if row is not None
            for r in row
        ]
        # Rewards that are equal but for rounding have no contrast.
        flat = [round(x, 9) for x in flat]
        streams[side] = iter(zscore(flat, ddof, epsilon))
    out = []
    for i, row in enumerate(rewards):
        if row is None:
            out.append(None)
            continue
        found = {side: [next(streams[side]) for _ in row] for side in streams}
        out.append(found[bool(right[i])])
    return out


def grpo_s_rewards(right, means, **options):
    rows = gtpo_rewards(right, [None if h is None else [h] for h in means], **options)
    return [None if row is None else row[0] for row in rows]


def process_supervision(scores, ddof=1, epsilon=1e-4):
    """scores: a list of numbers a trajectory."""
    z = iter(zscore([x for row in scores for x in row], ddof, epsilon))
    rows = [[next(z) for _ in row] for row in scores]
    return [[sum(row[k:]) for k in range(len(row))] for row in rows]


def causal_weight(z, replaced, integrated, centre, alpha):
    target = [a - b + c for a, b, c in zip(replaced, integrated, centre, strict=True)]
    product = sum(a * b for a, b in zip(z, target, strict=True))
    sizes = math.sqrt(sum(a * a for a in z)) * math.sqrt(sum(b * b for b in target))
    return alpha * product / sizes if sizes else 0.0


def consistency(scores, right, centre, penalty=10.0, least=2, most=30):
    inner = sum(p - centre for p in scores) / len(scores) if scores else 0.0
    odd = len(scores) < least or len(scores) > most
    return (1 if right else -1) * 2 * inner - penalty * odd


def curate(score, right, remove):
    """right: True, False or None. Returns the indices that stay."""
    stay = [i for i, r in enumerate(right) if r is not None]
    remove = max(remove - (len(right) - len(stay)), 0)
    ones = sorted((i for i in stay if right[i]), key=lambda i: score[i])
    zeros = sorted((i for i in stay if not right[i]), key=lambda i: score[i])
    of_right = min(remove, round((len(ones) - len(zeros) + remove) / 2))
    of_right = max(of_right, 0)
    gone = set(ones[:of_right]) | set(zeros[: remove - of_right])
    return [i for i in stay if i not in gone]

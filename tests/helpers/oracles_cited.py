"""Credit and rewards of cited systems in float64 and literal loops; lists of steps and tokens."""

from __future__ import annotations

import math

from tests.helpers import oracles_credit as credit
from tests.helpers.oracles_advantages import zscore


def least_remaining(scores, temperature):
    out = []
    for k in range(len(scores)):
        weights = [math.exp(-r / temperature) for r in scores[k:]]
        out.append(sum(w * r for w, r in zip(weights, scores[k:], strict=True)) / sum(weights))
    return out


def min_supervision(rows, temperature):
    returns = [least_remaining(row, temperature) for row in rows]
    flat = iter(zscore([x for row in returns for x in row]))
    return [[next(flat) for _ in row] for row in returns]


def token_gain(scores, tokens):
    return sum((scores[k] - scores[k - 1]) * tokens[k] for k in range(1, len(scores)))


def cosine_length(outcome, length, finished, limit):
    if not finished:
        return -10.0
    start, end = (2.0, 1.0) if outcome else (-10.0, 0.0)
    return end + (start - end) * (1 + math.cos(math.pi * length / limit)) / 2


def repeated(tokens, ngram):
    marked = [False] * len(tokens)
    for i in range(len(tokens) - ngram + 1):
        if any(tokens[j : j + ngram] == tokens[i : i + ngram] for j in range(i)):
            marked[i : i + ngram] = [True] * ngram
    return marked


def prover(group):
    """PAV: each step's effect, and what it adds to the best of four."""
    base, out = credit.base_value(group), []
    for row in credit.scored(group):
        values = [base, *row["phi"][:-1], row["outcome"]]
        best = [1 - (1 - v) ** 4 for v in values]
        steps = range(len(row["steps"]))
        out.append([values[k + 1] - values[k] + best[k + 1] - best[k] for k in steps])
    return out


def root(group):
    """TreeRL: each step's value over its parent's and over the root's."""
    base = credit.base_value(group)
    out = []
    for row in credit.scored(group):
        values = [base, *row["phi"][:-1], row["outcome"]]
        out.append([(v - p) + (v - base) for p, v in zip(values, values[1:], strict=False)])
    return out


def terminate(group):
    """MRT: tokens after the first boundary have the outcome over the value before their step."""
    out = []
    for row in credit.scored(group):
        over = [row["outcome"] - phi for phi in row["phi"][:-1]]
        steps = zip(row["steps"], [0.0, *over], strict=True)
        out.append([a for (start, end), a in steps for _ in range(end - start)])
    return credit.for_all(group, out)

"""Step statistics by literal loops over pairs, solutions and thresholds."""

from __future__ import annotations

import math


def won(a: float, b: float) -> float:
    return 1.0 if a > b else 0.5 if a == b else 0.0


def pairs(score, positive, question, step) -> dict:
    """question -> [concordant, pairs], over every two rows of one question and step."""
    out = {q: [0.0, 0] for q in question}
    for i in range(len(score)):
        for j in range(len(score)):
            together = question[i] == question[j] and step[i] == step[j]
            scored = not (math.isnan(score[i]) or math.isnan(score[j]))
            if together and scored and positive[i] and not positive[j]:
                out[question[i]][0] += won(score[i], score[j])
                out[question[i]][1] += 1
    return out


def auc(score, positive, question, step) -> float:
    counts = pairs(score, positive, question, step).values()
    total = sum(n for _, n in counts)
    return sum(c for c, _ in counts) / total if total else math.nan


def outscores(score, first, second, question, step):
    """(won within, pairs within, won across, pairs across)."""
    rows = [n for n in range(len(score)) if not math.isnan(score[n])]
    both = {
        q
        for q in question
        if any(first[n] and question[n] == q for n in rows)
        and any(second[n] and question[n] == q for n in rows)
    }
    inside, across = [0.0, 0], [0.0, 0]
    for i in rows:
        for j in rows:
            if not (first[i] and second[j]):
                continue
            if question[i] == question[j]:
                inside = [inside[0] + won(score[i], score[j]), inside[1] + 1]
            elif step[i] == step[j] and question[i] not in both and question[j] not in both:
                across = [across[0] + won(score[i], score[j]), across[1] + 1]
    return (*inside, *across)


def earliest_error(scores, threshold) -> int:
    for index, score in enumerate(scores):
        if score < threshold:
            return index
    return -1


def f1(predicted, label) -> float:
    """ProcessBench: harmonic mean of the accuracies on wrong and on right solutions."""
    wrong = [p == k for p, k in zip(predicted, label, strict=True) if k != -1]
    right = [p == k for p, k in zip(predicted, label, strict=True) if k == -1]
    if not wrong or not right:
        return math.nan
    a, b = sum(wrong) / len(wrong), sum(right) / len(right)
    return 2 * a * b / (a + b) if a + b else 0.0


def best_f1(scores, label) -> float:
    """The highest F1 of any threshold: beside and at every score, and beyond all."""
    flat = sorted({s for row in scores for s in row if not math.isnan(s)})
    candidates = [-math.inf, *flat, *((a + b) / 2 for a, b in zip(flat, flat[1:], strict=False))]
    candidates.append(math.inf)
    return max(f1([earliest_error(row, t) for row in scores], label) for t in candidates)

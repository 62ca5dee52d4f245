"""Rows of benchmarks in the fields that their authors gave them.

    GSM8K, GSM-Symbolic   question, answer ("... #### 72")
    MATH                  problem, solution (its last box is the answer), level, type
    MATH-500              problem, answer, solution, subject, level, unique_id
    SVAMP                 Body, Question, Answer (145.0), Type, ID
    ASDiv                 Body, Question, Answer ("9 (apples)"), as XML, or in small letters
    MultiArith            question, final_ans; or sQuestion, lSolutions ([39.0]), iIndex
    AIME, AMC             problem, answer (204, 142.0); or Problem, Answer, ID

Of ASDiv the items whose answer is one whole number are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from gccpo_jax.tasks.answers import last_boxed

NAMES = {
    "question": ("problem", "Question", "Problem", "sQuestion"),
    "answer": ("Answer", "final_ans", "lSolutions"),
    "solution": ("Solution",),
    "id": ("ID", "unique_id", "iIndex"),
}
"""Fields that are read, and what else they are called."""

BODIES = ("Body", "body")
"""What comes before the question."""

LABELS = ("level", "subject", "type", "Type", "source", "meta", "template", "original_id")
"""Fields that say which kind an item is, of tables whose columns are read by name."""

COLUMNS = (*NAMES, *(name for more in NAMES.values() for name in more), *BODIES, *LABELS)
_WITH_UNIT = re.compile(r"(\S.*?)\s*\([^()]*\)")
_LONGEST = 80  # characters of a label; longer is text


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with "question", "answer", "solution" and "id" where it has them by other names.

    >>> plain({"Body": "Ana has 3 pens.", "Question": "How many?", "Answer": 3.0})["question"]
    'Ana has 3 pens. How many?'
    >>> plain({"problem": "?", "solution": "so \\\\boxed{7}"})["answer"]
    '7'
    """
    found = dict(row)
    for name, others in NAMES.items():
        given = [other for other in others if other in row]
        if name not in row and given:
            found[name] = row[given[0]]
    body = next((row[name] for name in BODIES if isinstance(row.get(name), str)), None)
    if body and isinstance(found.get("question"), str):
        found["question"] = f"{body.strip()} {found['question'].strip()}"
    answer = found.get("answer")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if type(answer) in (int, float) and math.isfinite(answer):
        answer = str(int(answer)) if answer == int(answer) else str(answer)
    if body and isinstance(answer, str) and (unit := _WITH_UNIT.fullmatch(answer.strip())):
        answer = unit[1]
    if answer is None and isinstance(found.get("solution"), str):
        answer = last_boxed(found["solution"])
    return found if answer is None else found | {"answer": answer}


def is_left_out(row: Mapping[str, Any]) -> bool:
    """Whether a row of ASDiv, in the fields of `plain`, has no whole number as its answer."""
    is_asdiv = any(name in row for name in BODIES) and ("Formula" in row or "formula" in row)
    return is_asdiv and not re.fullmatch(r"-?[0-9]+(\.0+)?", str(row.get("answer")).strip())


def labels(row: Mapping[str, Any]) -> dict[str, str]:
    """What else a row says in a word or a number, as text: its level, source, type.

    >>> labels({"question": "?", "level": 5, "meta": {"subject": "Algebra"}})
    {'level': '5', 'subject': 'Algebra'}
    """
    nested = row.get("meta")
    others = {**row, **nested} if isinstance(nested, Mapping) else dict(row)
    used = {*NAMES, *BODIES, *(name for more in NAMES.values() for name in more)}
    return {
        name: str(value)
        for name, value in others.items()
        if name not in used
        and isinstance(value, (str, int, float))
        and 0 < len(str(value)) <= _LONGEST
    }

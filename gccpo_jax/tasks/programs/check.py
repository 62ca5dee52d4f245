"""Labels of the statements of a program, by running it with what is missing from the reference.

The checker goes through the steps with what the steps so far leave to be done of the reference.
A step that is wrong is restored, so a later one is judged by itself. In this order:

==================  =====================================================
`filler`            no statement: blank, a comment, `pass`
`special_case`      `if ...: return ...`: it answers for what it names
`valid`             in place of one statement that is left, the program passes all tests
`unneeded`          it sets no variable of a statement that is left, and with all that is left
                    the program passes: it does no harm
`wrong`             with all that is left but one the program fails, and that one restored it passes
==================  =====================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gccpo_jax.tasks.programs.rewrite import is_special

LABELS = ("filler", "special_case", "valid", "unneeded", "wrong")
FLAWS = ("special_case", "wrong")
"""Labels of steps that are wrong."""


def check(
    reference: Sequence[str], steps: Sequence[str], passes: Callable[[Sequence[str]], bool]
) -> list[str]:
    """One label per step; `passes` says whether a body passes all tests."""
    left, done, labels = list(reference), [], []
    for step in (one.strip() for one in steps):
        label, used = _judge(step, done, left, passes)
        labels.append(label)
        if label == "wrong":
            used = _meant(step, left)
        if label in ("valid", "unneeded"):
            done.append(step)
        elif label == "wrong" and used is not None:
            done.append(left[used])
        if used is not None:
            left.pop(used)
    return labels


def _judge(
    step: str, done: list[str], left: list[str], passes: Callable[[Sequence[str]], bool]
) -> tuple[str, int | None]:
    """The label, and which statement that is left it does."""
    if not step or step.startswith("#") or step == "pass":
        return "filler", None
    if is_special(step):
        return "special_case", None
    for n in range(len(left)):
        if passes([*done, step, *left[:n], *left[n + 1 :]]):
            return "valid", n
    if _target(step) not in map(_target, left) and passes([*done, step, *left]):
        return "unneeded", None
    return "wrong", None


def _meant(step: str, left: Sequence[str]) -> int | None:
    """The statement that is left for which a wrong step stands: of its variable, else the first."""
    same = [n for n, line in enumerate(left) if _target(line) == _target(step)]
    return (same or [0])[0] if left else None


def _target(step: str) -> str:
    """The variable that a statement sets, or "return"."""
    return step.split(" ")[0]

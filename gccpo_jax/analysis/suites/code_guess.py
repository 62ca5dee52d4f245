"""The lucky guess of code: does a program answer for the shown tests alone, or for all of them?

Both kinds pass the tests that the question shows, which is all that a trainer without the hidden
ones can see. What tells them apart without the hidden tests is what interventions do, and code has
them exact, since an answer is run and not asked for:

    Eq         other names and another constant in question, tests and body together
               (`Task.number`), so that a shown result is another: does the body give it?
    following  one change of an operator, comparison, constant or index of a statement
               (`Task.corrupt`): does some result on the shown tests change?

A special case keeps pointing at the old results, and its results follow no statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gccpo_jax.analysis.library import own_traces
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.analysis.suites.lucky_guess import Guess
from gccpo_jax.sampling.opened import Model
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.programs.problem import Problem
from gccpo_jax.tasks.programs.suite import is_lucky, shown_results

GUESS = Guess(
    {
        "equivariance": "passes the shown tests when names and a constant change (Eq)",
        "following": "statements of which some change alters a shown result",
        "outcome": "passes the shown tests",
        "logprob": "mean log-probability of the body",
        "length": "tokens of the body",
    },
    ("pass the shown tests alone", "pass the hidden ones too"),
)
_TRIES = 4  # rewrites with other numbers of a body, and changes of a statement


def collect(
    model: Model,
    batches: Iterable[Sequence[Item]],
    settings: Settings,
    *,
    group: int,
) -> dict[str, np.ndarray]:
    """Columns [N], one row per sampled body that passes the shown tests."""
    solver, parts = model.solver, []
    for chosen in batches:
        traces = own_traces(model, chosen, settings, group=group)
        logp = np.asarray(traces.rollout.logp, np.float64)
        for b, g in np.ndindex(*traces.lengths.shape):
            size = traces.lengths[b, g]
            found = measured(solver.task, chosen[b], traces.texts[b, g], settings.seed, g)
            if found is not None:
                parts.append(found | {"logprob": logp[b, g, :size].mean(), "length": float(size)})
    return {name: np.array([row[name] for row in parts]) for name in (parts[0] if parts else {})}


def measured(task: Task, item: Item, body: str, seed: int, sample: int) -> dict | None:
    """What a body shows without the hidden tests, and which kind it is; None: it passes neither.

    Changes are drawn from (seed, question id, sample).
    """
    answer = task.answer_of(item, body)
    if answer is None or not (is_lucky(item, answer) or answer == item.answer):
        return None
    steps = body.rstrip("\n").split("\n")
    rng = np.random.default_rng([seed, item.id, sample])
    return {
        "question": item.id,
        "kind": GUESS.kinds[int(answer == item.answer)],
        "outcome": 1.0,
        "equivariance": _equivariance(task, item, steps, rng),
        "following": _following(task, item, steps, rng),
    }


def _equivariance(task: Task, item: Item, steps: Sequence[str], rng: np.random.Generator) -> float:
    """Share of rewrites with other shown results whose shown tests the rewritten body passes."""
    found = [task.number(item, steps, rng) for _ in range(_TRIES)]
    moved = [pair for pair in found if pair is not None and _shown(pair[0]) != _shown(item)]
    passed = [results for pair in moved if (results := shown_results(*pair)) is not None]
    return float(np.mean(["0" not in results for results in passed] or [np.nan]))


def _shown(item: Item) -> list[int]:
    """The results that the question shows."""
    problem: Problem = item.meta["problem"]
    return problem.results()[: len(problem.shown)]


def _following(task: Task, item: Item, steps: Sequence[str], rng: np.random.Generator) -> float:
    """Share of statements of which some change alters a result on the shown tests."""
    own, moved = shown_results(item, steps), []
    for k, step in enumerate(steps):
        changes = [task.corrupt(step, rng) for _ in range(_TRIES)]
        bodies = [[*steps[:k], x, *steps[k + 1 :]] for x in changes if x is not None]
        moved.append(any(shown_results(item, body) != own for body in bodies))
    return float(np.mean(moved))

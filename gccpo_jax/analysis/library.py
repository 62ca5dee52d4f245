"""Step credit of any loaded model as a library: what each step did to the answer.

    model = open_model("tiny", "chain")
    report = analyse(model, "Ana has 3 pens . ...", ["Ana 3 + 4 = 7 pens", "#### 7"], gold="7")
    report.steps[0].D

`analyse_batch` is the same for many questions at once; `python -m gccpo_jax.analyse`
for a file of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gccpo_jax.analysis.engine import Analysis, analyse_traces
from gccpo_jax.analysis.report import TrajectoryReport, candidates_at, law_over, steps_of
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.counterfactual.places import cut_steps
from gccpo_jax.errors import UserError
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import outcomes
from gccpo_jax.sampling.opened import Model
from gccpo_jax.sampling.questions import Questions, round_up
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Seen, Traces, encode_traces, sample_traces
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.types import Prompts, Spans


@dataclasses.dataclass(frozen=True)
class Query:
    """One question, and the solution to analyse; without one the policy's own are."""

    item: Item
    steps: tuple[str, ...] | None = None
    labels: tuple[Any, ...] | None = None  # one per step
    name: str = ""  # how reports call it


def make_item(task: Task, number: int, question: str, gold: str | None) -> Item:
    """An item from plain text; the gold answer is normalised as the task does it."""
    if not gold:
        return Item(id=number, question=question, answer=None)
    found = task.extract(task.cues[0] + gold + task.terminator)
    return Item(id=number, question=question, answer=gold if found is None else found)


def analyse(
    loaded: Model,
    question: str | Item,
    trajectory: Sequence[str] | str | None = None,
    *,
    gold: str | None = None,
    settings: Settings | None = None,
    group: int = 4,
) -> TrajectoryReport:
    """Phi, D, R, S (and more) of every step of one trajectory, with intervals.

    Args:
      loaded: any model, see `open_model`.
      question: its text, or an `Item` of the task (needed for the task's own rewrites).
      trajectory: the solution as steps, or as text that is cut where the task cuts;
        None analyses one that the model writes.
      gold: the right answer; without it Phi and D are None, R and S are not.
      settings: how much to measure.
      group: rollouts of the question, whose answers are the candidates.
    """
    task = loaded.solver.task
    item = question if isinstance(question, Item) else make_item(task, 0, question, gold)
    if isinstance(trajectory, str):
        trajectory = split_steps(task, trajectory)
    query = Query(item, None if trajectory is None else tuple(trajectory))
    reports, _ = analyse_batch(loaded, [query], settings or Settings(), group=group)
    return reports[0][0]


def split_steps(task: Task, text: str) -> list[str]:
    """Text cut behind every boundary of the task.

    >>> split_steps(bare_task("gsm8k"), "1. 2 + 3 = 5\\n#### 5")
    ['1. 2 + 3 = 5\\n', '#### 5']
    """
    pieces = [piece + task.boundary for piece in text.split(task.boundary)]
    pieces[-1] = pieces[-1].removesuffix(task.boundary)
    return [piece for piece in pieces if piece]


def analyse_batch(
    loaded: Model,
    queries: Sequence[Query],
    settings: Settings,
    *,
    group: int,
    prompt_tokens: int = 0,
    response_tokens: int = 0,
) -> tuple[list[list[TrajectoryReport]], Analysis]:
    """Analyses one batch: all queries with a solution, or all without.

    Args:
      group: G rollouts per question. Without a solution they are what is analysed;
        with one their answers join the candidates.
      prompt_tokens, response_tokens: widths to pad to (so that batches share a
        compilation); 0 takes what this batch needs.
    Returns:
      Reports [queries][trajectories], and the arrays behind them.
    Raises:
      UserError: the batch mixes both kinds, or a text is longer than the model's context.
    """
    solver = loaded.solver
    items = [query.item for query in queries]
    sampled = own_traces(loaded, items, settings, group=group, width=prompt_tokens)
    given = [query.steps is not None for query in queries]
    if any(given) and not all(given):
        raise UserError("a batch holds either questions or solutions, not both")
    if all(given):
        traces, spans = encode_solutions(loaded, queries, sampled, settings, response_tokens)
        texts_of = np.concatenate([traces.texts, sampled.texts], axis=1)
        limit = traces.limit + settings.max_tokens
    else:
        traces, texts_of, limit = sampled, sampled.texts, settings.max_tokens
        spans = cut_steps(solver, traces, settings.segmentation)
    _check_context(loaded, sampled.prompts, limit)
    seen = Seen(solver, loaded.params, traces)
    found = analyse_traces(seen, spans, settings, pool_of=texts_of, limit=limit)
    reports = [
        [_report(solver, query, traces, found, b, g) for g in range(traces.tokens.shape[1])]
        for b, query in enumerate(queries)
    ]
    return reports, found


def own_traces(
    loaded: Model, items: Sequence[Item], settings: Settings, *, group: int, width: int = 0
) -> Traces:
    """`group` solutions of each question that the model samples; `width`: see `prompts_of`."""
    return sample_traces(
        loaded.solver,
        loaded.params,
        items,
        prompts_of(loaded.solver, items, width),
        group=group,
        rule=Rule(settings.temperature),
        max_tokens=settings.max_tokens,
        seed=(settings.seed, 0),
        watch=Stopwatch(),
    )


def given_traces(
    loaded: Model, own: Traces, tokens: np.ndarray, lengths: np.ndarray, step: int
) -> Traces:
    """Other solutions, tokens [B, G, T], of the same questions; `step`: in their noise's keys."""
    return encode_traces(
        loaded.solver,
        loaded.params,
        own.items,
        own.prompts,
        tokens,
        lengths,
        rule=own.rule,
        seed=(own.seed[0], step),
    )


def prompts_of(solver: Solver, items: Sequence[Item], width: int = 0) -> Prompts:
    """Rendered prompts of some items, padded to `width` or to a multiple of 32."""
    rows = tuple(
        tuple(
            solver.tokenizer.render(solver.task.prompt(item), solver.task.system, solver.task.chat)
        )
        for item in items
    )
    longest = max(map(len, rows))
    if width and longest > width:
        raise UserError(f"a prompt has {longest} tokens, more than the {width} asked for")
    size = width or round_up(longest)
    questions = Questions(tuple(items), rows, size, solver.tokenizer.pad_id, 0)
    return jax.tree.map(jax.numpy.asarray, questions.prompts(range(len(items))))


def step_ids(solver: Solver, steps: Sequence[str]) -> list[list[int]]:
    """Token ids of each step of a given solution.

    A step ends with the task's boundary (added where it is missing), the last one with
    the end of the text. An empty step has no tokens.
    """
    pieces = []
    for n, step in enumerate(steps):
        last = n == len(steps) - 1
        if not step.strip():
            pieces.append([])
        elif last:
            pieces.append([*solver.tokenizer.encode(step.rstrip()), solver.tokenizer.eos_id])
        else:
            pieces.append(solver.tokenizer.encode(step.rstrip("\n") + solver.task.boundary))
    return pieces


def merge_to(pieces: list[list[int]], most: int) -> list[list[int]]:
    """At most `most` pieces; what comes later joins the last of them."""
    if len(pieces) <= most:
        return pieces
    rest = [token for piece in pieces[most - 1 :] for token in piece]
    return [*pieces[: most - 1], rest]


def encode_solutions(
    loaded: Model, queries: Sequence[Query], own: Traces, settings: Settings, width: int = 0
) -> tuple[Traces, Spans]:
    """Given solutions as traces [B, 1, T] with their own steps as spans."""
    solver, most = loaded.solver, settings.segmentation.max_steps
    rows = [merge_to(step_ids(solver, query.steps or ()), most) for query in queries]
    longest = max(sum(map(len, row)) for row in rows)
    size = width or round_up(max(longest, 1))
    if longest > size:
        raise UserError(f"a solution has {longest} tokens, more than the {size} asked for")
    tokens = np.zeros((len(rows), 1, size), np.int32)
    lengths = np.zeros((len(rows), 1), np.int32)
    start, end = np.zeros((2, len(rows), 1, most), np.int32)
    mask = np.zeros(start.shape, bool)
    for b, row in enumerate(rows):
        flat = [token for piece in row for token in piece]
        cuts = np.cumsum([0, *map(len, row)])
        tokens[b, 0, : len(flat)] = flat
        lengths[b, 0] = len(flat)
        start[b, 0], end[b, 0] = len(flat), len(flat)
        start[b, 0, : len(row)], end[b, 0, : len(row)] = cuts[:-1], cuts[1:]
        mask[b, 0, : len(row)] = True
    traces = given_traces(loaded, own, tokens, lengths, step=1)
    return traces, Spans(*map(jax.numpy.asarray, (start, end, mask)))


def _report(
    solver: Solver, query: Query, traces: Traces, found: Analysis, b: int, g: int
) -> TrajectoryReport:
    pieces = texts_of_steps(solver, traces, found, b, g)
    labels = query.labels if query.labels and len(query.labels) == len(pieces) else None
    outcome = float(traces.outcome[b, g])
    name = query.name or str(query.item.id)
    known = candidates_at(found, b)
    return TrajectoryReport(
        id=name if query.steps is not None else f"{name}/{g}",
        question=query.item.question,
        gold=query.item.answer,
        answer=solver.task.answer_of(query.item, traces.texts[b, g]),
        outcome=None if np.isnan(outcome) else outcome,
        candidates=[found.labels[b][n] for n in known],
        law_before=law_over(known, np.asarray(found.laws.before[b, g])),
        steps=steps_of(found, b, g, pieces, labels, solver.tokenizer),
    )


def texts_of_steps(solver: Solver, traces: Traces, found: Analysis, b: int, g: int) -> list[str]:
    """The text of each analysed step of one trajectory."""
    kept = found.mask[b, g]
    starts, ends = found.spans.start[b, g][kept], found.spans.end[b, g][kept]
    return outcomes.step_texts(solver.tokenizer, traces.tokens[b, g], starts, ends)


def _check_context(loaded: Model, prompts: Prompts, limit: int) -> None:
    needed = prompts.tokens.shape[1] + limit
    if needed > loaded.context:
        raise UserError(
            f"prompt, solution and branches need {needed} tokens, the model's context is "
            f"{loaded.context}; lower max_tokens or leave long rows out"
        )

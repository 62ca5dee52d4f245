"""Updates that are not finite: recognised and skipped in the graph, looked into on the host."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.runtime.distributed import is_first, to_host
from gccpo_jax.runtime.workdir import write_json, writing
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.session import Session
from gccpo_jax.types import Array, Params, TrainState, UpdateBatch


def bad_questions(is_good: Callable[[UpdateBatch], Array], batch: UpdateBatch) -> list[int]:
    """Rows of questions whose own update is not finite; all of them if none is by itself."""
    rows = range(batch.prompt.shape[0])
    alone = [jax.tree.map(lambda x, b=b: x[b : b + 1], batch) for b in rows]
    return [b for b in rows if not is_good(alone[b])] or list(rows)


def describe_bad(
    rows: Sequence[int], items: Sequence[Item], batch: UpdateBatch, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """The questions of `rows` and what the update reads of their responses, for a file."""
    host = jax.tree.map(to_host, batch)

    def response(b: int, g: int) -> dict[str, Any]:
        kept = host.mask[b, g]
        fields = ("behaviour_logp", "reference_logp", "advantage")
        row = {name: getattr(host, name)[b, g][kept].tolist() for name in fields}
        if host.reward is not None:
            row["reward"] = float(host.reward[b, g])
        return {"text": tokenizer.decode(host.tokens[b, g][kept].tolist()), **row}

    return [
        {
            "question_id": items[b].id,
            "question": items[b].question,
            "gold": items[b].answer,
            "responses": [response(b, g) for g in range(host.mask.shape[1])],
        }
        for b in rows
    ]


def explain_skip(
    is_good: Callable[[Params, UpdateBatch], Array],
    session: Session,
    directory: pathlib.Path,
    step: int,
    state: TrainState,
    batch: UpdateBatch,
    items: Sequence[Item],
) -> pathlib.Path:
    """Writes the questions that made a step's update not finite; where."""
    rows = bad_questions(partial(is_good, state.params), batch)
    described = describe_bad(rows, items, batch, session.solver.tokenizer)
    file = directory / f"step_{step:06d}.json"
    with writing("what was not finite", file):
        if is_first():
            directory.mkdir(exist_ok=True)
            write_json(file, described)
    return file

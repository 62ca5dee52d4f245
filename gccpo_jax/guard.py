"""Updates that are not finite: recognised and skipped in the graph, looked into on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from gccpo_jax.distributed import to_host
from gccpo_jax.objective import Loss
from gccpo_jax.tasks.base import Item
from gccpo_jax.tokenizer import Tokenizer
from gccpo_jax.types import Array, UpdateBatch

_State = TypeVar("_State")


def is_finite(loss: Loss, norm: Array, batch: UpdateBatch) -> Array:
    """Whether an update may be made: [] bool.

    Looks at every sum of the `Loss`, the gradient's global `norm`, and what the batch brings
    for tokens that train. The latter because clamped ratios hide an infinite log-probability.
    """
    given = [batch.behaviour_logp, batch.reference_logp, batch.advantage]
    given = [jnp.where(batch.mask, x, 0.0) for x in given]
    if batch.reward is not None:
        given.append(jnp.where(batch.mask.any(-1), batch.reward, 0.0))
    checks = [jnp.isfinite(x).all() for x in (*jax.tree.leaves(loss), norm, *given)]
    return jnp.stack(checks).all()


def choose(finite: Array, new: _State, old: _State) -> _State:
    """Every leaf of `new` where `finite`, else of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)


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

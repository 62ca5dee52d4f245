"""What does not change during a run: the policy's functions, the task, and their tables."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.tasks.base import Task
from gccpo_jax.types import AnswerField, Array, Policy


@dataclasses.dataclass(frozen=True)
class Solver:
    """A policy and a task that fit each other. Parameters are handed on, not kept."""

    policy: Policy
    task: Task
    tokenizer: Tokenizer
    stop: Array  # [V] bool  tokens that end a response
    boundary: Array  # [V] bool  tokens that may end a step
    field: AnswerField  # how the scored reader asks for an answer
    shards: int = 1  # parts that the mesh splits the questions of a batch into


def make_solver(policy: Policy, task: Task, tokenizer: Tokenizer, shards: int = 1) -> Solver:
    """Tables over the policy's vocabulary, made once."""
    stop = np.zeros(policy.vocab_size, bool)
    stop[list(tokenizer.stop_ids)] = True
    boundary = tokenizer.ids_where(lambda piece: task.boundary in piece, policy.vocab_size)
    return Solver(
        policy=policy,
        task=task,
        tokenizer=tokenizer,
        stop=jnp.asarray(stop),
        boundary=jnp.asarray(boundary),
        field=_field(task, tokenizer, stop),
        shards=shards,
    )


def _field(task: Task, tokenizer: Tokenizer, stop: np.ndarray) -> AnswerField:
    """How the task asks for an answer, in tokens; of tokens that pause it, the first one does."""
    cues = tuple(jnp.asarray(tokenizer.encode(cue), jnp.int32) for cue in task.cues)

    def over(before: str) -> np.ndarray:
        return tokenizer.ids_where(lambda piece: task.is_over(before + piece) is True, len(stop))

    ends = jnp.asarray(stop | over(""))
    pauses = np.flatnonzero(tokenizer.ids_where(lambda piece: task.is_over(piece) is None))
    if not pauses.size:
        return AnswerField(cues, ends)
    after = stop | over(tokenizer.decode(pauses[:1], skip_special=False))
    return AnswerField(cues, ends, jnp.int32(pauses[0]), jnp.asarray(after))

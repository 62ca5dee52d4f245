"""A process reward from outside: the user's function scores the steps of a response.

    judge(question: str, steps: Sequence[str]) -> Sequence[float]

Its scores become one more stream of token advantages, GRPO's process supervision
(`process.process_supervision`), beside the outcome's or the step credit's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage import to_tokens
from gccpo_jax.config import SegmentationConfig
from gccpo_jax.errors import UserError
from gccpo_jax.kit import Kit
from gccpo_jax.process import process_supervision
from gccpo_jax.steps import find_steps
from gccpo_jax.texts import step_texts
from gccpo_jax.traces import Traces
from gccpo_jax.types import Array, Spans

Judge = Callable[[str, Sequence[str]], Sequence[float]]


def load_judge(name: str) -> Judge | None:
    """The function that `config.reward.process` names, "package.module:function"; None for "".

    Raises:
      UserError: another form, no such module or function, or it cannot be called.
    """
    if not name:
        return None
    told = f"config.reward.process = {name!r}"
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(f"{told}: expected 'package.module:function'")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise UserError(
            f"{told}: cannot import {module!r} ({error}); install it or put its directory on "
            "PYTHONPATH"
        ) from error
    if found is None:
        raise UserError(f"{told}: module {module!r} has no {function!r}")
    if not callable(found):
        raise UserError(f"{told}: expected a function, it is a {type(found).__name__}")
    return found


def judged_advantage(
    kit: Kit, segmentation: SegmentationConfig, traces: Traces, judge: Judge
) -> tuple[dict[str, float], Array]:
    """The mean step score for the log, and token advantages [B, G, T].

    Trajectories that could not be scored are not judged and get 0.
    """
    spans = _steps(
        kit.boundary, traces.rollout.tokens, traces.rollout.length,
        max_steps=segmentation.max_steps, min_tokens=segmentation.min_tokens,
        max_tokens=segmentation.max_tokens,
    )  # fmt: skip
    score, mask = judged(kit, traces, spans, judge)
    size = traces.tokens.shape[-1]
    advantage = _advantage(jnp.asarray(score), jnp.asarray(mask), spans, size)
    return {"process_score": float(score[mask].mean()) if mask.any() else 0.0}, advantage


def judged(kit: Kit, traces: Traces, spans: Spans, judge: Judge) -> tuple[np.ndarray, np.ndarray]:
    """Scores [B, G, E] of the steps, and which of them were judged.

    Raises:
      UserError: the judge returns another number of scores than steps, or no finite numbers.
    """
    start, end, exists = (np.asarray(x) for x in (spans.start, spans.end, spans.mask))
    mask = exists & traces.scorable[..., None]
    score = np.zeros(mask.shape, np.float32)
    for b, g in zip(*np.nonzero(mask.any(-1)), strict=True):
        own = mask[b, g]
        steps = step_texts(kit.tokenizer, traces.tokens[b, g], start[b, g][own], end[b, g][own])
        item = traces.items[b]
        score[b, g, own] = _checked(judge(item.question, steps), len(steps), item.id)
    return score, mask


def _checked(found: Sequence[float], count: int, question: int) -> np.ndarray:
    told = f"config.reward.process: for question {question} with {count} steps"
    try:
        scores = np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{told} it returned {found!r}; expected a number a step") from error
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise UserError(f"{told} it returned {found!r}; expected a finite number a step")
    return scores


@partial(jax.jit, static_argnames=("max_steps", "min_tokens", "max_tokens"))
def _steps(boundary: Array, tokens: Array, length: Array, **limits: int) -> Spans:
    def one(tokens: Array, length: Array) -> Spans:
        return find_steps(boundary[tokens], length, **limits)

    return jax.vmap(jax.vmap(one))(tokens, length)


@partial(jax.jit, static_argnames="size")
def _advantage(score: Array, mask: Array, spans: Spans, size: int) -> Array:
    def of_group(score: Array, mask: Array, spans: Spans) -> Array:
        return jax.vmap(partial(to_tokens, size=size))(process_supervision(score, mask), spans)

    return jax.vmap(of_group)(score, mask, spans)

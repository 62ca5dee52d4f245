"""A process reward from outside: the user's function scores the steps of a response.

    judge(question: str, steps: Sequence[str]) -> Sequence[float]

Its scores become one more stream of token advantages, GRPO's process supervision
(`process_supervision.process_supervision`), beside the outcome's or the step credit's; or they
choose which trajectories of a group train (PROF, `process_supervision.curate`). A run's judge
works in a child process with a deadline (`tasks.checking.user.load_process`), or it is a process
reward model that reads the batch where the policy does (`policy.step_scorer`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.baselines import RIGHT
from gccpo_jax.advantage.process_supervision import (
    consistency,
    curate,
    min_supervision,
    process_supervision,
    token_gain,
)
from gccpo_jax.advantage.step_advantages import to_tokens
from gccpo_jax.config import Config, RewardConfig, SegmentationConfig
from gccpo_jax.counterfactual.places import cut_steps
from gccpo_jax.errors import UserError
from gccpo_jax.policy.step_scorer import StepScorer, open_scorer
from gccpo_jax.runtime.distributed import divided, to_host
from gccpo_jax.sampling.critic import Critic, open_critic
from gccpo_jax.sampling.outcomes import asked_of, step_texts
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.checking.user import load_process
from gccpo_jax.types import Array, Spans

_log = logging.getLogger(__name__)
Judge = Callable[[str, Sequence[str]], Sequence[float]]
"""It raises TimeoutError where it was lost over the steps, see `user.load_process`."""


MODEL, CRITIC = "prm:", "critic:"
"""What a `reward.process` begins with that names the directory of a process reward model, or of a
chat model that is asked to verify."""


def open_judge(section: RewardConfig, mesh: jax.sharding.Mesh | None = None) -> Judge | None:
    """The judge that the config names: a model on `mesh`, or a function in its child process.

    None without one.
    """
    if section.process.startswith(CRITIC):
        return open_critic(section.process.removeprefix(CRITIC), mesh)
    if section.process.startswith(MODEL):
        return open_scorer(section.process.removeprefix(MODEL), mesh)
    return load_process(section.process, seconds=section.process_seconds, gib=section.process_gib)


def open_values(config: Config, mesh: jax.sharding.Mesh) -> StepScorer | None:
    """Who foretells values in a run with `counterfactual.value` "learned", None in others."""
    section = config.counterfactual
    return open_scorer(section.scorer, mesh) if section.value == "learned" else None


@dataclasses.dataclass(frozen=True)
class Judged:
    """Scores of the steps of a batch."""

    score: np.ndarray  # [B, G, E] f32, 0 outside the mask
    mask: np.ndarray  # [B, G, E] bool  steps that were judged
    spans: Spans  # [B, G, E] all steps, none merged

    @property
    def mean(self) -> float:
        """Mean score of a step, 0 without any."""
        return float(self.score[self.mask].mean()) if self.mask.any() else 0.0


def judge_steps(
    solver: Solver, segmentation: SegmentationConfig, traces: Traces, judge: Judge
) -> Judged:
    """Asks the judge about every trajectory that could be scored."""
    spans = cut_steps(solver, traces, segmentation)
    return Judged(*judged(solver, traces, spans, judge), spans)


def judged_advantage(found: Judged, size: int, *, least: bool = False) -> Array:
    """Token advantages [B, G, T = size] of process supervision; 0 where nothing was judged.

    `least`: of `process_supervision.min_supervision` instead (PURE).
    """
    score, mask = jnp.asarray(found.score), jnp.asarray(found.mask)
    return _advantage(score, mask, found.spans, size, least)


def judged_gain(found: Judged) -> Array:
    """[B, G]: `process_supervision.token_gain` of each trajectory; 0 where nothing was judged."""
    tokens = found.spans.end - found.spans.start
    gain = jax.vmap(jax.vmap(token_gain))
    return gain(jnp.asarray(found.score), tokens, jnp.asarray(found.mask))


def curated(found: Judged, traces: Traces, keep: int) -> np.ndarray:
    """PROF's filter over each group: [B, G] bool, the `keep` trajectories that train.

    Ranked by `process_supervision.consistency` against the batch's mean step score, right and wrong
    ones balanced by `process_supervision.curate`.
    """
    outcome = jnp.asarray(np.nan_to_num(traces.outcome))
    scorable = jnp.asarray(traces.scorable)
    remove = outcome.shape[1] - keep
    score, mask = jnp.asarray(found.score), jnp.asarray(found.mask)
    return to_host(_curate(score, mask, outcome > RIGHT, scorable, found.mean, remove))


@partial(jax.jit, static_argnames="remove")
def _curate(
    score: Array, mask: Array, right: Array, scorable: Array, centre: Array, remove: int
) -> Array:
    def of_group(score: Array, mask: Array, right: Array, scorable: Array) -> Array:
        fits = jax.vmap(consistency, in_axes=(0, 0, 0, None))(score, mask, right, centre)
        return curate(fits, right, scorable, remove=remove)

    return jax.vmap(of_group)(score, mask, right, scorable)


def judged(
    solver: Solver, traces: Traces, spans: Spans, judge: Judge
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [B, G, E] of the steps, and which of them were judged.

    A trajectory over which the judge was lost is not judged.

    Raises:
      UserError: the judge raises, or returns another number of scores than steps, or no finite
        numbers.
    """
    start, end, exists = (to_host(x) for x in (spans.start, spans.end, spans.mask))
    mask = exists & traces.scorable[..., None]
    if isinstance(judge, StepScorer | Critic):  # a model reads all solutions of the batch
        score = np.zeros(mask.shape, np.float32)
        places, asked = asked_of(solver.tokenizer, traces.items, traces.tokens, start, end, mask)
        for (b, g), found in zip(places, judge.many(asked), strict=True):
            score[b, g, mask[b, g]] = found
        return np.nan_to_num(score), mask & ~np.isnan(score)

    def of_question(b: int) -> np.ndarray:
        score, item = np.zeros(mask.shape[1:], np.float32), traces.items[b]
        for g in np.flatnonzero(mask[b].any(-1)):
            own = mask[b, g]
            steps = step_texts(
                solver.tokenizer, traces.tokens[b, g], start[b, g][own], end[b, g][own]
            )
            score[g, own] = _asked(judge, item, steps)
        return score

    score = divided(of_question, len(mask))
    return np.nan_to_num(score), mask & ~np.isnan(score)


def _asked(judge: Judge, item: Item, steps: Sequence[str]) -> np.ndarray:
    """Scores of the steps, NaN where the judge was lost over them."""
    where = f"config.reward.process: for question {item.id} with {len(steps)} steps"
    try:
        found = judge(item.question, steps)
    except TimeoutError as error:
        _log.warning("%s: not judged, %s", where, error)
        return np.full(len(steps), np.nan)
    except Exception as error:  # the user's own code may raise anything
        raise UserError(
            f"{where}: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    return _checked(found, len(steps), where)


def _checked(found: Sequence[float], count: int, where: str) -> np.ndarray:
    try:
        scores = np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} it returned {found!r}; expected a number per step") from error
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise UserError(f"{where} it returned {found!r}; expected a finite number per step")
    return scores


@partial(jax.jit, static_argnames=("size", "least"))
def _advantage(score: Array, mask: Array, spans: Spans, size: int, least: bool) -> Array:
    supervise = min_supervision if least else process_supervision

    def of_group(score: Array, mask: Array, spans: Spans) -> Array:
        return jax.vmap(partial(to_tokens, size=size))(supervise(score, mask), spans)

    return jax.vmap(of_group)(score, mask, spans)

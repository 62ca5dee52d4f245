"""One batch of experience: sample, verify, read, credit.

Device work is in jitted functions of arrays; between them text is verified on
the host (`sampling/outcomes.py`). Nothing here keeps state: the result is a function of
(parameters, questions, seed, step), with `sampling.dynamic` also of the batches that it draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.credit import Credit
from gccpo_jax.advantage.kinds import credit_batch
from gccpo_jax.advantage.outcome import outcome_advantages, shaped_outcome
from gccpo_jax.config import Config, CreditConfig
from gccpo_jax.counterfactual.read import read
from gccpo_jax.masked import length_mask, masked_mean
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Seen, Traces, sample_traces
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.dynamic_sampling import refill
from gccpo_jax.training.metrics import checker_metrics, credit_metrics, sampling_metrics
from gccpo_jax.training.process_reward import Judge, curated, judge_steps, judged_advantage
from gccpo_jax.types import Array, Params, Prompts, Rollout, Segment, Spans


@dataclasses.dataclass(frozen=True)
class Experience:
    """A batch that has been sampled and credited; arrays over [B, G, ...]."""

    items: Sequence[Item]  # B: the questions that are trained on
    prompts: Prompts  # [B, S]
    rollout: Rollout  # without its cache
    texts: np.ndarray  # [B, G] object
    outcome: np.ndarray  # [B, G] f32, NaN where unscorable
    reward: Array  # [B, G] f32  the outcome, shaped if asked for; 0 where unscorable
    advantage: Array  # [B, G, T]
    mask: Array  # [B, G, T] bool  tokens that train
    spans: Spans | None  # macro-steps [B, G, E]; None for credit by outcome only
    credit: Credit | None
    metrics: dict[str, float]


def collect(
    solver: Solver,
    config: Config,
    params: Params,
    items: Sequence[Item],
    prompts: Prompts,
    step: int,
    watch: Stopwatch,
    reader: Params | None = None,
    more: Callable[[], tuple[Sequence[Item], Prompts]] | None = None,
    judge: Judge | None = None,
) -> Experience:
    """Samples a group for each question and credits its steps.

    Args:
      reader: parameters of who reads answer laws, None for the policy itself.
      more: the next batch of questions, for `sampling.dynamic`. Metrics of sampling are
        those of the first round: the ones that are kept were chosen by their outcomes.
      judge: scores of steps from outside (`config.reward.process`), None for none.
    """
    sample = partial(
        sample_traces,
        solver,
        params,
        group=config.group_size,
        rule=behaviour_rule(config.sampling),
        max_tokens=config.sampling.max_tokens,
        seed=(config.seed, step),
        watch=watch,
        slots=config.sampling.slots,
    )
    sampled = sample(items, prompts)
    metrics = sampling_metrics(sampled)
    metrics |= checker_metrics(solver.task, sampled.items, sampled.texts, sampled.outcome)
    if config.sampling.dynamic and more is not None:
        next_questions = more
        sampled, found = refill(sampled, lambda: sample(*next_questions()), config.sampling.dynamic)
        metrics |= found
    judged, trains = None, sampled.scorable
    if judge is not None:
        with watch("judge"):
            judged = judge_steps(solver, config.segmentation, sampled, judge)
        metrics["process_score"] = judged.mean
        if config.reward.process_use == "curate":
            trains, judged = curated(judged, sampled, config.reward.keep), None
            metrics["kept"] = float(trains.mean())
    rollout = without_cache(sampled.rollout)
    spans, credit = None, None
    reward, found = shaped_reward(config, sampled, rollout)
    metrics |= found
    if not config.credit.of_steps:
        with watch("credit"):
            of_batch = jax.vmap(partial(outcome_advantages, rule=config.credit))
            advantage = of_batch(reward, jnp.asarray(trains), rollout)
    else:
        writer = Seen(solver, params, sampled)
        with watch("readout"):
            seen = writer if reader is None else writer.read_by(reader)
        section = config.counterfactual
        reading, spans, found = read(writer, seen, section, config.segmentation, watch)
        use_gate = jnp.bool_(found["reader_gate"] >= section.min_gate)
        with watch("credit"):
            credit = _credit(
                reading, spans, rollout, use_gate, sampled.keys,
                rule=config.credit, max_other=config.counterfactual.max_other,
            )  # fmt: skip
            advantage = jax.block_until_ready(credit.advantage)
        metrics |= found | credit_metrics(credit, spans, reading)
    if judged is not None:
        process = judged_advantage(judged, sampled.tokens.shape[-1])
        advantage = advantage + config.reward.process_weight * process
    inside = length_mask(rollout.length, sampled.tokens.shape[-1])
    return Experience(
        items=sampled.items,
        prompts=sampled.prompts,
        rollout=rollout,
        texts=sampled.texts,
        outcome=sampled.outcome,
        reward=reward,
        advantage=advantage,
        mask=inside & trains[..., None],
        spans=spans,
        credit=credit,
        metrics=metrics,
    )


def without_cache(rollout: Rollout) -> Rollout:
    """The rollout with an empty segment, so that the cache can be freed."""
    empty = jnp.zeros(rollout.length.shape)
    return dataclasses.replace(rollout, segment=Segment(empty, empty, empty))


@partial(jax.jit, static_argnames=("rule", "max_other"))
def _credit(
    reading: GroupReading,
    spans: Spans,
    rollout: Rollout,
    use_gate: Array,
    question_keys: Array,
    *,
    rule: CreditConfig,
    max_other: float,
) -> Credit:
    """`credit_batch`, with keys of this step for the control that permutes."""
    group = rollout.length.shape[1]
    keys = jax.vmap(lambda key: noise.stream_keys(key, noise.PERMUTE, group))(question_keys)
    return credit_batch(reading, spans, rollout, use_gate, keys, rule=rule, max_other=max_other)


def shaped_reward(
    config: Config, sampled: Traces, rollout: Rollout
) -> tuple[Array, dict[str, float]]:
    """Rewards [B, G], and their mean for the log where they are not the outcomes."""
    r = config.reward
    outcome = jnp.asarray(np.nan_to_num(sampled.outcome))
    if not (r.overlong or r.length_penalty):
        return outcome, {}
    scorable = jnp.asarray(sampled.scorable)
    shape = partial(
        shaped_outcome, limit=config.sampling.max_tokens, overlong=r.overlong,
        length_penalty=r.length_penalty,
    )  # fmt: skip
    reward = jax.vmap(shape)(outcome, scorable, rollout)
    return reward, {"reward": float(masked_mean(reward, scorable))}

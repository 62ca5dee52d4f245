"""One batch of experience: sample, verify, read, credit.

Device work is in jitted functions of arrays; between them text is verified on
the host (`sampling/outcomes.py`). Nothing here keeps state: the result is a function of
(parameters, questions, seed, step), with `sampling.dynamic` also of the batches that it draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.baselines import group_zscore
from gccpo_jax.advantage.credit import Credit, on_every_token
from gccpo_jax.advantage.kinds import credit_batch
from gccpo_jax.advantage.outcome import outcome_advantages, shaped_outcome
from gccpo_jax.advantage.shaping import repeated
from gccpo_jax.config import Config
from gccpo_jax.counterfactual.read import BatchReading, Evidence, read
from gccpo_jax.masked import length_mask, masked_mean
from gccpo_jax.policy.step_scorer import StepScorer
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.reward.group import GroupReading, transported_reward
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Seen, Traces, sample_traces
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.branched import branch_update
from gccpo_jax.training.causal_group import causal_group
from gccpo_jax.training.compressed import step_compression
from gccpo_jax.training.dynamic_sampling import refill
from gccpo_jax.training.intervened import Trained, do_update, regroup, surfaces, ungroup
from gccpo_jax.training.metrics import checker_metrics, credit_metrics, sampling_metrics
from gccpo_jax.training.planning.tokens import COUNTED, budget
from gccpo_jax.training.process_reward import (
    Judge,
    curated,
    judge_steps,
    judged_advantage,
    judged_gain,
)
from gccpo_jax.training.self_distilled import self_distilled
from gccpo_jax.types import Array, Params, Prompts, Rollout, Segment, Spans


@dataclasses.dataclass(frozen=True)
class Experience:
    """A batch that has been sampled and credited; arrays over [B, G, ...].

    With `sampling.surface_groups` = M a row is one wording of a question: B M rows of G / M.
    """

    items: Sequence[Item]  # B: the questions that are trained on
    prompts: Prompts  # [B, S]
    rollout: Rollout  # without its cache
    texts: np.ndarray  # [B, G] object
    outcome: np.ndarray  # [B, G] f32, NaN where unscorable
    reward: Array  # [B, G] f32  the outcome, shaped if asked for; 0 where unscorable
    advantage: Array  # [B, G, T]
    trained: Trained  # what the update reads: the same, in other words, or with branches
    spans: Spans | None  # macro-steps [B, G, E]; None for credit by outcome only
    credit: Credit | None
    reading: GroupReading | None  # None where no step was read, as the next
    evidence: Evidence | None
    metrics: dict[str, float]
    anchor: Array | None = None  # [B, G, T]  log pi' of GCPO


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
    start: Params | None = None,
    scorer: StepScorer | None = None,
) -> Experience:
    """Samples a group for each question and credits its steps.

    Args:
      reader: parameters of who reads answer laws, None for the policy itself.
      more: the next batch of questions, for `sampling.dynamic`. Metrics of sampling are
        those of the first round: the ones that are kept were chosen by their outcomes.
      judge: scores of steps from outside (`config.reward.process`), None for none.
      scorer: who foretells values (`counterfactual.scorer`), for `value` "learned".
      start: the parameters that training began with, for `credit.compression`.
    """
    groups, seed = config.sampling.surface_groups, (config.seed, step)
    if groups > 1:
        items, prompts = surfaces(solver, items, prompts, groups, seed)
    sample = partial(
        sample_traces,
        solver,
        params,
        group=config.group_size // groups,
        rule=behaviour_rule(config.sampling),
        max_tokens=config.sampling.max_tokens,
        seed=seed,
        watch=watch,
        slots=config.sampling.slots,
        surfaces=groups,
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
    read_batch, spans, credit, anchor = None, None, None, None
    reward, found = shaped_reward(config, sampled, rollout)
    metrics |= found
    if config.reward.process_use == "gain" and judged is not None:
        reward = reward + config.reward.process_weight * judged_gain(judged)
        metrics["reward"] = float(masked_mean(reward, jnp.asarray(sampled.scorable)))
        judged = None
    if config.reads_steps:
        writer = Seen(solver, params, sampled)
        with watch("readout"):
            seen = writer if reader is None else writer.read_by(reader)
        section, segmentation = config.counterfactual, config.segmentation
        given = (writer, seen, section, segmentation, watch)
        read_batch = read(*given, laws=config.reads_laws, scorer=scorer)
        spans = read_batch.places.spans
        metrics |= read_batch.metrics
    if config.credit.compression and read_batch is not None and start is not None:
        with watch("compression"):
            read_batch, found = penalised(solver, params, start, sampled, rollout, read_batch)
        metrics |= found
    with watch("credit"):
        if config.credit.of_steps:
            credit = _credited(config, read_batch, rollout, sampled.keys)
            advantage = jax.block_until_ready(credit.advantage)
            metrics |= credit_metrics(credit, spans, read_batch.reading)
        elif config.credit.kind == "sdpo":
            advantage, found = self_distilled(solver, params, sampled, sampled.rule)
            metrics |= found
        elif config.credit.kind == "gcpo":
            rule = config.credit
            given = {"budget": rule.causal_budget, "alpha": rule.causal_scale}
            causal = causal_group(solver, params, sampled, **given)
            anchor, metrics = causal.anchor, metrics | causal.metrics
            zscore = partial(group_zscore, ddof=rule.ddof, epsilon=rule.epsilon)
            scored = jax.vmap(zscore)(reward, jnp.asarray(trains))
            advantage = jax.vmap(on_every_token)(scored * causal.factor, rollout)
        else:
            if read_batch is not None:
                reward = _transported(config, read_batch.reading)
                metrics["reward"] = float(to_host(masked_mean(reward, read_batch.reading.scorable)))
            of_batch = jax.vmap(partial(outcome_advantages, rule=config.credit))
            given = regroup((reward, jnp.asarray(trains), rollout), groups)
            advantage = ungroup(of_batch(*given), groups)
    if judged is not None:
        least = config.reward.process_return == "min"
        process = judged_advantage(judged, sampled.tokens.shape[-1], least=least)
        advantage = advantage + config.reward.process_weight * process
    if config.reward.repetition:
        again = repetitions(rollout.tokens, rollout.length, ngram=config.reward.repetition_ngram)
        advantage = advantage - config.reward.repetition * again
        metrics["repeated"] = float(again.sum() / sampled.lengths.sum())
    inside = length_mask(rollout.length, sampled.tokens.shape[-1])
    mask = inside & trains[..., None]
    trained = Trained(sampled.prompts, rollout.tokens, rollout.logp, advantage, mask)
    if config.optim.do_share:
        trained, found = do_update(
            trained,
            rollout,
            spans,
            # Without credit of steps, each has the trajectory's own.
            jnp.where(spans.mask, advantage[..., :1], 0.0)
            if credit is None
            else credit.step_advantage,
            read_batch.moved,
            sampled.keys,
            share=config.optim.do_share,
            rule=config.credit,
        )
        metrics |= found
    if config.optim.train_branches:
        trained, found = branch_update(
            trained, spans, read_batch.evidence.written, config.sampling.max_tokens
        )
        metrics |= found
    metrics["forward_tokens"] = forward_tokens(config, sampled, spans, metrics)
    return Experience(
        items=sampled.items,
        prompts=sampled.prompts,
        rollout=rollout,
        texts=sampled.texts,
        outcome=sampled.outcome,
        reward=reward,
        advantage=advantage,
        trained=trained,
        spans=spans,
        credit=credit,
        reading=None if read_batch is None else read_batch.reading,
        evidence=None if read_batch is None else read_batch.evidence,
        metrics=metrics,
        anchor=anchor,
    )


def penalised(
    solver: Solver,
    params: Params,
    start: Params,
    sampled: Traces,
    rollout: Rollout,
    found: BatchReading,
) -> tuple[BatchReading, dict[str, float]]:
    """The reading with L2T's penalty of every step, since `start`, and its metrics."""
    spans = found.places.spans
    given = (params, start, sampled.prompts, rollout, spans)
    penalty = step_compression(solver.policy, *given, rule=sampled.rule)
    reading = dataclasses.replace(found.reading, penalty=penalty)
    metrics = {
        "compression": float(masked_mean(penalty, spans.mask)),
        "compression_tokens": 2.0 * float(sampled.lengths.sum()),
    }
    return dataclasses.replace(found, reading=reading), metrics


def forward_tokens(
    config: Config, sampled: Traces, spans: Spans | None, metrics: Mapping[str, float]
) -> float:
    """Tokens that a policy read or wrote for the batch: what a study matches arms by.

    Prompts, rollouts, branches and trajectories in other words as they were; answer laws by
    the formulas of `planning/tokens.py` with the batch's mean sizes. The update's own pass is
    left out: it costs the same per trajectory in every arm. Not so branches that train, which
    it reads beside them.
    """
    questions, trajectories = len(sampled.items), sampled.lengths.size
    prompts = float(to_host(sampled.prompts.mask).sum())
    asked = metrics.get("sampled_questions", questions) / questions
    exact = ("tokens", "branch_tokens", "rewritten_tokens", "branch_context_tokens")
    exact += ("departure_tokens", "teacher_tokens", "compression_tokens", "causal_tokens")
    total = prompts * asked + sum(metrics.get(name, 0.0) for name in exact)
    if spans is None or "candidates" not in metrics:
        return total
    count = max(metrics["candidates"], 1.0)
    readings = budget(
        config,
        None,
        steps=max(float(to_host(spans.mask).sum(-1).mean()), 1.0),
        tokens=float(sampled.lengths.mean()),
        prompt=prompts / questions,
        branch=0.0,
        answer=metrics["candidate_tokens"] / count,
        candidates=count,
    )
    laws = sum(row.tokens for row in readings.rows[1:] if row.name not in COUNTED)
    return total + laws * trajectories


def _credited(
    config: Config, found: BatchReading, rollout: Rollout, question_keys: Array
) -> Credit:
    """The credit of each group, over all wordings of its question."""
    groups, section = config.sampling.surface_groups, config.counterfactual
    use_gate = jnp.bool_(found.metrics.get("reader_gate", 0.0) >= section.min_gate)
    reading, spans, rollout = regroup((found.reading, found.places.spans, rollout), groups)
    arms = 1 if found.moved is None else found.moved.arms
    keys = None
    if config.credit.control == "permuted":
        stream = partial(noise.stream_keys, stream=noise.PERMUTE, group=rollout.length.shape[1])
        keys = jax.vmap(stream)(question_keys[::groups])
    given = (reading, spans, rollout, use_gate, keys)
    sizes = {"max_other": section.max_other, "draws": section.draws * arms}
    return ungroup(credit_batch(*given, rule=config.credit, **sizes), groups)


def _transported(config: Config, reading: GroupReading) -> Array:
    """The transported reward [B, G] of credit without steps."""
    groups = config.sampling.surface_groups
    of_batch = jax.vmap(partial(transported_reward, kappa=config.credit.kappa))
    given = regroup((reading.outcome, reading.transported, reading.scorable), groups)
    return ungroup(of_batch(*given), groups)


def without_cache(rollout: Rollout) -> Rollout:
    """The rollout with an empty segment, so that the cache can be freed."""
    empty = jnp.zeros(rollout.length.shape)
    return dataclasses.replace(rollout, segment=Segment(empty, empty, empty))


@partial(jax.jit, static_argnames="ngram")
def repetitions(tokens: Array, length: Array, *, ngram: int) -> Array:
    """`shaping.repeated` of a batch: [B, G, T] f32, 1 on tokens that come again."""
    of_group = jax.vmap(partial(repeated, ngram=ngram))
    return jax.vmap(of_group)(tokens, length).astype(jnp.float32)


def shaped_reward(
    config: Config, sampled: Traces, rollout: Rollout
) -> tuple[Array, dict[str, float]]:
    """Rewards [B, G], and their mean for the log where they are not the outcomes."""
    outcome = jnp.asarray(np.nan_to_num(sampled.outcome))
    if not config.reward.by_length:
        return outcome, {}
    scorable = jnp.asarray(sampled.scorable)
    shape = partial(shaped_outcome, limit=config.sampling.max_tokens, rule=config.reward)
    reward = jax.vmap(shape)(outcome, scorable, rollout)
    return reward, {"reward": float(to_host(masked_mean(reward, scorable)))}

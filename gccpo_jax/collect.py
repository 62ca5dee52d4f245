"""One batch of experience: sample, intervene, read, reward, credit.

The order of the package on one page. Device work is in jitted functions of
arrays; between them text is verified on the host (`texts.py`). Nothing here
keeps state: the result is a function of (parameters, questions, keys).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax import noise, texts
from gccpo_jax.branches import continue_branches
from gccpo_jax.config import Config
from gccpo_jax.counterfactual import latent_laws, variant_laws
from gccpo_jax.credit import Credit, CreditRule, Reading, gated_gae, outcome_only
from gccpo_jax.law import Rule
from gccpo_jax.readout import Candidates
from gccpo_jax.sampling import sample
from gccpo_jax.steps import find_steps, merge_steps, read_boundaries
from gccpo_jax.stopwatch import Stopwatch
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tokenizer import Tokenizer
from gccpo_jax.types import Array, Params, Policy, Prompts, Rollout, Segment, Spans


@dataclasses.dataclass(frozen=True)
class Kit:
    """What does not change during a run: the policy's functions, the task and their tables."""

    policy: Policy
    task: Task
    tokenizer: Tokenizer
    stop: Array  # [V] bool  tokens that end a response
    boundary: Array  # [V] bool  tokens that may end a step
    cue: Array  # [Q] int32


def make_kit(policy: Policy, task: Task, tokenizer: Tokenizer) -> Kit:
    """Tables over the policy's vocabulary, made once."""
    size = policy.vocab_size
    stop = np.zeros(size, bool)
    stop[list(tokenizer.stop_ids)] = True
    return Kit(
        policy=policy,
        task=task,
        tokenizer=tokenizer,
        stop=jnp.asarray(stop),
        boundary=jnp.asarray(tokenizer.ids_containing(task.boundary, size)),
        cue=jnp.asarray(tokenizer.encode(task.cue), jnp.int32),
    )


@dataclasses.dataclass(frozen=True)
class Experience:
    """A batch that has been sampled and credited; arrays over [B, G, ...]."""

    rollout: Rollout  # without its cache
    texts: np.ndarray  # [B, G] object
    outcome: np.ndarray  # [B, G] f32, NaN where unscorable
    advantage: Array  # [B, G, T]
    mask: Array  # [B, G, T] bool  tokens that train
    spans: Spans | None  # macro-steps [B, G, E]; None for credit by outcome only
    credit: Credit | None
    metrics: dict[str, float]


def collect(
    kit: Kit,
    config: Config,
    params: Params,
    items: Sequence[Item],
    prompts: Prompts,
    step: int,
    watch: Stopwatch,
) -> Experience:
    """Samples a group for each question and credits its steps."""
    keys = noise.question_keys(jax.random.key(config.seed), step, prompts.ids)
    rule = Rule(config.sampling.temperature, config.sampling.top_k, config.sampling.top_p)
    with watch("sample"):
        prompt, rollout = sample(
            kit.policy, params, prompts, keys, kit.stop,
            group=config.group_size, rule=rule, max_tokens=config.sampling.max_tokens,
        )  # fmt: skip
        tokens, lengths = np.asarray(rollout.tokens), np.asarray(rollout.length)
    with watch("verify"):
        answers = texts.decode_all(kit.tokenizer, tokens, lengths)
        outcome = texts.outcomes(kit.task, items, answers)
    scorable = ~np.isnan(outcome)
    metrics = _sampling_metrics(rollout, outcome, scorable)
    if config.credit.kind == "outcome":
        advantage = _outcome_advantage(config, outcome, scorable, rollout)
        spans, credit = None, None
    else:
        reading, spans, read = _read(
            kit, config, params, items, prompts, step, watch, keys, rule,
            prompt, rollout, answers, outcome,
        )  # fmt: skip
        with watch("credit"):
            use_gate = jnp.bool_(read["reader_gate"] >= config.counterfactual.min_gate)
            credit = jax.block_until_ready(
                _credit(reading, spans, _without_cache(rollout), use_gate, _credit_rule(config))
            )
        advantage = credit.advantage
        metrics |= read | _credit_metrics(credit, spans, reading)
    inside = jnp.arange(tokens.shape[-1]) < rollout.length[..., None]
    return Experience(
        rollout=_without_cache(rollout),
        texts=answers,
        outcome=outcome,
        advantage=advantage,
        mask=inside & scorable[..., None],
        spans=spans,
        credit=credit,
        metrics=metrics,
    )


def _without_cache(rollout: Rollout) -> Rollout:
    empty = jnp.zeros(rollout.length.shape)
    return dataclasses.replace(rollout, segment=Segment(empty, empty, empty))


def _credit_rule(config: Config) -> CreditRule:
    c = config.credit
    return CreditRule(
        c.gate, c.gate_answer, c.lam, c.tokens_per_unit, c.token_weights,
        config.counterfactual.max_other,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("rule",))
def _credit(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, rule: CreditRule
) -> Credit:
    one = lambda reading, spans, rollout: gated_gae(reading, spans, rollout, use_gate, rule)  # noqa: E731
    return jax.vmap(one)(reading, spans, rollout)


def _outcome_advantage(
    config: Config, outcome: np.ndarray, scorable: np.ndarray, rollout: Rollout
) -> Array:
    c = config.credit
    one = partial(outcome_only, baseline=c.baseline, ddof=c.ddof, epsilon=c.epsilon)
    filled = jnp.asarray(np.nan_to_num(outcome))
    return jax.vmap(one)(filled, jnp.asarray(scorable), _without_cache(rollout))


@partial(jax.jit, static_argnames=("max_steps", "min_tokens", "max_tokens", "boundaries"))
def cut(
    boundary: Array,  # [V] bool
    tokens: Array,  # [B, G, T]
    length: Array,  # [B, G]
    question_keys: Array,  # [B]
    *,
    max_steps: int,
    min_tokens: int,
    max_tokens: int,
    boundaries: int,
) -> tuple[Spans, Spans]:
    """Steps [B, G, max_steps] and the macro-steps [B, G, boundaries + 1] that are read."""

    def one(tokens: Array, length: Array, key: Array) -> tuple[Spans, Spans]:
        spans = find_steps(
            boundary[tokens], length,
            max_steps=max_steps, min_tokens=min_tokens, max_tokens=max_tokens,
        )  # fmt: skip
        kept = read_boundaries(key, spans, boundaries)
        return spans, merge_steps(spans, kept, boundaries + 1)

    group = tokens.shape[1]
    keys = jax.vmap(lambda key: noise.stream_keys(key, noise.BOUNDARIES, group))(question_keys)
    return jax.vmap(jax.vmap(one))(tokens, length, keys)


def _read(
    kit: Kit,
    config: Config,
    params: Params,
    items: Sequence[Item],
    prompts: Prompts,
    step: int,
    watch: Stopwatch,
    keys: Array,
    rule: Rule,
    prompt: Segment,
    rollout: Rollout,
    answers: np.ndarray,
    outcome: np.ndarray,
) -> tuple[Reading, Spans, dict[str, float]]:
    """Phi by continued branches and the answer laws under nuisance interventions."""
    c, s = config.counterfactual, config.segmentation
    steps, spans = cut(
        kit.boundary, rollout.tokens, rollout.length, keys, max_steps=s.max_steps,
        min_tokens=s.min_tokens, max_tokens=s.max_tokens, boundaries=c.boundaries,
    )  # fmt: skip
    tokens, lengths = np.asarray(rollout.tokens), np.asarray(rollout.length)
    with watch("branches"):
        value, branch_tokens = _continued_values(
            kit, config, params, items, prompt, rollout, spans, keys, rule
        )
    with watch("readout"):
        candidates, _ = texts.candidates_of(
            kit.task, kit.tokenizer, items, answers,
            count=c.max_candidates, max_tokens=c.max_answer_tokens,
        )  # fmt: skip
        starts = texts.answer_starts(kit.task, kit.tokenizer, tokens, lengths, answers)
        read_spans = Spans(spans.start, jnp.minimum(spans.end, starts[..., None]), spans.mask)
        read_spans = dataclasses.replace(
            read_spans, start=jnp.minimum(read_spans.start, read_spans.end)
        )
        factual, latent = latent_laws(
            kit.policy, params, prompt, rollout.segment, read_spans, keys, kit.cue, candidates,
            jnp.float32(c.latent_sigma), arms=c.latent_arms,
        )  # fmt: skip
        has_tokens = (read_spans.end > read_spans.start) & spans.mask
        perturbed = latent
        usable = jnp.broadcast_to(has_tokens[..., None], latent.shape[:-1])
        if c.surface_arms:
            surface, exists = _surface_laws(
                kit, config, params, items, prompts, step, tokens, steps, spans, starts, candidates
            )
            perturbed = jnp.concatenate([perturbed, surface], axis=3)
            here = exists[:, :, None, :] & spans.mask[..., None]
            usable = jnp.concatenate([usable, here], axis=3)
        jax.block_until_ready(perturbed)
    reading = Reading(
        outcome=jnp.asarray(np.nan_to_num(outcome)),
        scorable=jnp.asarray(~np.isnan(outcome)),
        value=jnp.asarray(value),
        factual=factual,
        perturbed=perturbed,
        usable=usable,
    )
    metrics = {
        "steps": float(np.asarray(steps.mask).sum(-1).mean()),
        "branch_tokens": float(branch_tokens),
        **_reader_metrics(kit, factual, candidates, spans, answers, rollout, c.max_other),
    }
    return reading, spans, metrics


def _continued_values(
    kit: Kit,
    config: Config,
    params: Params,
    items: Sequence[Item],
    prompt: Segment,
    rollout: Rollout,
    spans: Spans,
    keys: Array,
    rule: Rule,
) -> tuple[np.ndarray, int]:
    """Phi after each macro-step but the last [B, G, E] (NaN elsewhere), and tokens decoded."""
    c = config.counterfactual
    where = spans.mask[..., 1:]  # a boundary is read if a step follows it
    ends = jnp.maximum(spans.end[..., :-1], 1)
    branches = continue_branches(
        kit.policy, params, prompt, rollout, ends, where, keys, kit.stop,
        draws=c.draws, rule=rule, max_tokens=c.branch_tokens or config.sampling.max_tokens,
    )  # fmt: skip
    tokens, lengths = np.asarray(branches.tokens), np.asarray(branches.length)
    prefix, ends = np.asarray(rollout.tokens), np.asarray(ends)
    scores = np.full(lengths.shape, np.nan, np.float32)
    for b, g, e in zip(*np.nonzero(np.asarray(where)), strict=True):
        for n in range(c.draws):
            ids = [*prefix[b, g, : ends[b, g, e]], *tokens[b, g, e, n, : lengths[b, g, e, n]]]
            score = kit.task.verify(items[b], kit.tokenizer.decode(ids, skip_special=True))
            scores[b, g, e, n] = np.nan if score is None else score
    scored = ~np.isnan(scores)
    total = np.where(scored, scores, 0).sum(-1)
    value = np.where(scored.any(-1), total / np.maximum(scored.sum(-1), 1), np.nan)
    last = np.full((*value.shape[:2], 1), np.nan)
    return np.concatenate([value, last], axis=-1).astype(np.float32), int(lengths.sum())


def _surface_laws(
    kit: Kit,
    config: Config,
    params: Params,
    items: Sequence[Item],
    prompts: Prompts,
    step: int,
    tokens: np.ndarray,
    steps: Spans,
    spans: Spans,
    starts: np.ndarray,
    candidates: Candidates,
) -> tuple[Array, Array]:
    """Laws [B, G, E, P, C + 1] of the rewritten trajectories and which exist [B, G, P]."""
    ends = np.minimum(np.asarray(steps.end), starts[..., None])
    begins = np.minimum(np.asarray(steps.start), ends)
    words, words_mask, variants, exists = texts.surface_variants(
        kit.task, kit.tokenizer, items, tokens, begins, ends, np.asarray(steps.mask),
        arms=config.counterfactual.surface_arms, seed=(config.seed, step),
        prompt_tokens=np.shape(prompts.tokens)[1],
    )  # fmt: skip
    # The rewritten steps end where the original ones do: look the macro-steps' ends up.
    same = np.asarray(steps.end)[:, :, None, :] == np.asarray(spans.end)[..., None]
    index = np.argmax(same & np.asarray(steps.mask)[:, :, None, :], axis=-1)  # [B, G, E]
    index = np.broadcast_to(index[:, :, None, :], (*exists.shape, index.shape[-1]))
    read_at = np.take_along_axis(variants.ends, index, axis=-1)
    variants = dataclasses.replace(variants, ends=read_at)
    laws = variant_laws(kit.policy, params, words, words_mask, variants, kit.cue, candidates)
    return laws, jnp.asarray(exists)


def _sampling_metrics(
    rollout: Rollout, outcome: np.ndarray, scorable: np.ndarray
) -> dict[str, float]:
    lengths = np.asarray(rollout.length)
    mean = np.nanmean(outcome, axis=1) if scorable.any(axis=1).all() else np.zeros(len(outcome))
    return {
        "accuracy": float(outcome[scorable].mean()) if scorable.any() else 0.0,
        "unscorable": float(1 - scorable.mean()),
        "contrast": float(((mean > 0) & (mean < 1)).mean()),
        "entropy": float(np.asarray(rollout.entropy).sum() / lengths.sum()),
        "length": float(lengths.mean()),
        "truncated": float(1 - np.asarray(rollout.stopped).mean()),
        "tokens": float(lengths.sum()),
    }


def _reader_metrics(
    kit: Kit,
    factual: Array,
    candidates: Candidates,
    spans: Spans,
    answers: np.ndarray,
    rollout: Rollout,
    max_other: float,
) -> dict[str, float]:
    """How far the scored reader can be trusted.

    The gate: at the last step the reader's most probable candidate is the emitted
    answer, over finished trajectories that emitted a candidate.
    """
    laws, mask = np.asarray(factual), np.asarray(spans.mask)
    agree, counted = 0, 0
    gold_first = candidates  # candidate order: see texts.candidates_of
    for b, g in np.ndindex(*answers.shape):
        answer = kit.task.extract(answers[b, g])
        if answer is None or not bool(rollout.stopped[b, g]):
            continue
        ids = kit.tokenizer.encode(answer)
        rows = gold_first.tokens[b][:, : len(ids)]
        match = (rows == ids).all(-1) & (gold_first.mask[b].sum(-1) == len(ids) + 1)
        if not match.any():
            continue
        counted += 1
        best = int(np.argmax(laws[b, g, mask[b, g].sum() - 1, :-1]))
        agree += bool(match[best])
    other = laws[..., -1][mask]
    return {
        "reader_gate": agree / counted if counted else 0.0,
        "other": float(other.mean()),
        "unreadable": float((other > max_other).mean()),
    }


def _credit_metrics(credit: Credit, spans: Spans, reading: Reading) -> dict[str, float]:
    mask = np.asarray(spans.mask) & np.asarray(reading.scorable)[..., None]
    effect, gated = np.asarray(credit.effect), np.asarray(credit.gated)
    robust, defined = np.asarray(credit.robustness), np.asarray(credit.defined) & mask
    index = np.arange(mask.shape[-1])
    last = mask & (index == mask.sum(-1, keepdims=True) - 1)
    size = np.abs(gated).sum()
    mean = lambda x, where: float(x[where].mean()) if where.any() else 0.0  # noqa: E731
    return {
        "R": mean(robust, defined),
        "R_answer": mean(robust, defined & last),
        "R_defined": mean(defined.astype(np.float32), mask),
        "D": mean(effect, mask),
        "D_positive": mean((effect > 0).astype(np.float32), mask),
        "D_answer": mean(effect, last),
        "gated": mean(gated, mask),
        "credit_first": float(np.abs(gated[..., 0]).sum() / size) if size else 0.0,
        "advantage_abs": mean(np.abs(np.asarray(credit.step_advantage)), mask),
    }

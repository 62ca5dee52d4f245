"""The stages of a training step as abstract programs, for one device of a mesh.

Each stage is the function that training runs, traced on shapes: nothing is loaded, computed
or compiled. One device's share of a program is the same program of a narrower decoder
(heads, mlp and vocabulary over `tensor`) for fewer questions (over `data` x `fsdp`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.config import Config
from gccpo_jax.counterfactual.answer_laws import latent_laws, site_laws
from gccpo_jax.counterfactual.departures import departures
from gccpo_jax.counterfactual.interventions import INTERVENTIONS, SWAP, Intervention
from gccpo_jax.counterfactual.readers import branch_slots
from gccpo_jax.counterfactual.rewritten import Variant, variant_laws
from gccpo_jax.counterfactual.transport import FAMILIES
from gccpo_jax.objective.update import keeps_average, make_update, optimizer_of, policy_loss_fn
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.sampling.branches import continue_branches
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.ring_queue import queue_branches, sample_queue
from gccpo_jax.sampling.rollouts import sample_whole
from gccpo_jax.sampling.sites import Sites, step_log_likelihood
from gccpo_jax.sampling.traces import encode_responses
from gccpo_jax.training.adapters import join_of, shapes
from gccpo_jax.training.causal_group import read_group
from gccpo_jax.training.compressed import step_compression
from gccpo_jax.training.planning import liveness
from gccpo_jax.training.self_distilled import log_ratio
from gccpo_jax.training.session import is_narrow
from gccpo_jax.types import (
    AnswerField,
    Candidates,
    Policy,
    Prompts,
    Rollout,
    Spans,
    TrainState,
    UpdateBatch,
)

CUE = 4
"""Tokens of the text that asks for an answer; tasks have about as many."""

Shape = jax.ShapeDtypeStruct
READER = "caches of another reader"
REWRITTEN = "caches in other words"
DEPARTED = "departures"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A program of the step and the shapes of its arguments."""

    name: str
    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    donated: int = 0  # how many of the first arguments may be overwritten

    @property
    def work(self) -> int:
        """Bytes that it makes beside its arguments at its peak, results included."""
        trees = enumerate(self.arguments)
        gone = [n < self.donated for n, tree in trees for _ in jax.tree.leaves(tree)]
        return liveness.peak(jax.make_jaxpr(self.run)(*self.arguments), gone)


@dataclasses.dataclass(frozen=True)
class Share:
    """What one device has of a run."""

    config: Config
    arch: Arch  # the device's part of the decoder
    questions: int  # of the batch

    @property
    def policy(self) -> Policy:
        """The device's part of the decoder as functions."""
        return model.make_policy(
            self.arch, self.config.policy.remat, compute=self.config.policy.compute
        )

    @property
    def params(self) -> Any:
        """Its parameters, whole where `fsdp` splits them; adapters included."""
        if (base := self.base) is None:
            return self.own
        return jax.eval_shape(join_of(self.config.policy.lora), base, self.own)

    @property
    def own(self) -> Any:
        """Those that train."""
        return shapes(self.config.policy.lora, self.arch)[0]

    @property
    def base(self) -> Any:
        """Those that do not train; None: all do."""
        return model.abstract(self.arch) if self.config.policy.lora.rank else None

    @property
    def stop(self) -> Shape:
        """Tokens that end a response."""
        return flags(self.arch.vocab_size)

    @property
    def field(self) -> AnswerField:
        """How answers are asked for."""
        return AnswerField((ints(CUE),), self.stop)

    def candidates(self, questions: int, count: int) -> Candidates:
        """As many candidate answers as asked for, of the greatest length."""
        rows, width = (questions, count), self.config.counterfactual.max_answer_tokens - 1
        return Candidates(ints(*rows, width), flags(*rows, width), flags(*rows), ints(*rows))


def ints(*shape: int) -> Shape:
    """int32 of a shape."""
    return Shape(shape, jnp.int32)


def flags(*shape: int) -> Shape:
    """bool of a shape."""
    return Shape(shape, bool)


def floats(*shape: int) -> Shape:
    """float32 of a shape."""
    return Shape(shape, jnp.float32)


def keys(*shape: int) -> Shape:
    """Random keys of a shape."""
    return jax.eval_shape(lambda: jnp.broadcast_to(jax.random.key(0), shape))


def share_of(config: Config, arch: Arch) -> Share:
    """What one device has of `config` on its mesh, which divides the sizes."""
    mesh = config.mesh
    narrow = dataclasses.replace(
        arch,
        heads=arch.heads // mesh.tensor,
        kv_heads=arch.kv_heads // mesh.tensor,
        mlp_width=arch.mlp_width // mesh.tensor,
        vocab_size=arch.vocab_size // mesh.tensor,
    )
    return Share(config, narrow, config.batch_size // (mesh.data * mesh.fsdp))


def sampling(share: Share) -> tuple[Stage, Any, Any]:
    """The stage, and the caches that it leaves: the prompts' segments and the rollouts."""
    c = share.config
    size = dict(group=c.group_size, max_tokens=c.sampling.max_tokens, slots=c.sampling.slots)
    run = _sampler(share, **size)
    inputs = _questions(share, share.questions, c.data.max_prompt_tokens)
    prompt, rollout = jax.eval_shape(run, share.params, *inputs)
    return Stage("sampling", run, (share.params, *inputs)), prompt, rollout


def evaluation(share: Share) -> Stage:
    """Greedy decoding of a batch of held-out questions, which is not split over the mesh."""
    c = share.config
    run = _sampler(share, group=1, max_tokens=c.eval.max_tokens or c.sampling.max_tokens)
    width = c.eval.max_prompt_tokens or c.data.max_prompt_tokens
    return Stage("evaluation", run, (share.params, *_questions(share, c.eval.batch, width)))


def _sampler(share: Share, *, group: int, max_tokens: int, slots: int = 0) -> Callable[..., Any]:
    rule = behaviour_rule(share.config.sampling)
    run = partial(sample_queue, slots=slots) if slots else sample_whole
    return partial(run, share.policy, group=group, rule=rule, max_tokens=max_tokens)


def _questions(share: Share, count: int, width: int) -> tuple[Prompts, Shape, Shape]:
    prompts = Prompts(ints(count, width), flags(count, width), Shape((count,), jnp.uint32))
    return prompts, keys(count), share.stop


def readings(share: Share, prompt: Any, rollout: Any) -> Iterator[Stage]:
    """What reads steps, in the order in which training does it; `prompt`, `rollout`: caches."""
    c, s, policy, params = share.config, share.config.segmentation, share.policy, share.params
    f, rule, limit = c.counterfactual, behaviour_rule(c.sampling), c.sampling.max_tokens
    batch, group, steps = share.questions, c.group_size, f.boundaries + 1
    rows = (batch, group, steps)
    candidates = share.candidates(batch, f.max_candidates)
    cache = (params, prompt, rollout.segment)

    def branches(name: str, count: int, draws: int, tokens: int, stops: tuple = ()) -> Stage:
        tapes = Tape(
            keys(batch, group, count, draws), floats(batch, group, draws, 0, share.arch.vocab_size)
        )
        run = partial(continue_branches, policy, rule=rule, max_tokens=tokens, limit=limit)
        sites = _sites(batch, group, count, 1)
        return Stage(name, run, (*cache, sites, tapes, share.stop, *stops))

    def values(batch: int, count: int, caches: tuple) -> Stage:
        shards = c.mesh.data * c.mesh.fsdp
        sizes = dict(rule=rule, max_tokens=min(f.branch_tokens or limit, limit), limit=limit)
        each = (count * f.draws, 1) if f.from_departure else (count, f.draws)
        tapes, sites = keys(batch, group, *each), _sites(batch, group, each[0], 1)
        if slots := branch_slots(batch * shards * group, count * f.draws, shards):
            run = partial(queue_branches, policy, **sizes, slots=slots)
            return Stage("branches", run, (*caches, sites, tapes, share.stop))
        noise = Tape(tapes, floats(batch, group, each[1], 0, share.arch.vocab_size))
        run = partial(continue_branches, policy, **sizes)
        return Stage("branches", run, (*caches, sites, noise, share.stop))

    def encoded(name: str, count: int) -> Stage:
        read = partial(encode_responses, policy, rule=rule)
        prompts = _questions(share, count, c.data.max_prompt_tokens)[0]
        given = (ints(count, group, limit), ints(count, group), share.stop)
        return Stage(name, read, (params, prompts, *given))

    if rewrites := len(FAMILIES[f.transport]) * f.transport_arms:
        count = batch * rewrites
        yield (again := encoded(REWRITTEN, count))
        there, written = jax.eval_shape(again.run, *again.arguments)
        yield values(count, steps, (params, there, written.segment))
    elif f.value != "scored":
        if f.from_departure:
            written = (ints(batch, group, limit), ints(batch, group), keys(batch, group, f.draws))
            boundaries = (batch, group, f.boundaries)
            read = partial(departures, policy, rule=rule)
            given = (*cache, *written, ints(*boundaries), flags(*boundaries))
            yield Stage(DEPARTED, read, given)
        yield values(batch, f.boundaries, cache)
    if not c.reads_laws:
        return
    if f.reader != "policy":
        yield encoded(READER, batch)
    spans = Spans(ints(*rows), ints(*rows), flags(*rows))
    read = partial(latent_laws, policy, arms=f.latent_arms)
    given = (spans, keys(batch), share.field, candidates, floats())
    yield Stage("readout, latent", read, (*cache, *given))
    wide = min(s.max_tokens or limit, limit)  # a macro-step may hold several steps
    wide = limit if f.boundaries < s.max_steps else wide
    for row in INTERVENTIONS:
        arms = row.asked(f)
        if not arms or row.reads == "cache":  # which the readout above holds
            continue
        if row.reads == "text":
            yield _variants(share, row, arms, steps)
            continue
        if row.writes:
            yield branches(f"{row.name}, decoded", steps, arms, limit, (share.stop, ints(*rows)))
        sites = _sites(*rows, arms + 1, wide)
        if row is SWAP:
            asked = (ints(batch, c.data.max_prompt_tokens), prompt, ints(batch, group, limit))
            likely = partial(step_log_likelihood, policy, rule=rule)
            yield Stage("likelihood of swaps", likely, (params, *asked, rollout.segment, sites))
        read = partial(site_laws, policy)
        yield Stage(f"readout, {row.name}", read, (*cache, sites, share.field, candidates))


def second_looks(share: Share, rollout: Rollout) -> Iterator[Stage]:
    """What reads or writes responses again for the credit of SDPO, GCPO and L2T."""
    c, policy, rule = share.config, share.policy, behaviour_rule(share.config.sampling)
    batch, group, size = (share.questions, c.group_size, c.sampling.max_tokens)
    prompts, *_ = _questions(share, batch, c.data.max_prompt_tokens)
    asked, own = 2 * c.data.max_prompt_tokens, dataclasses.replace(rollout, segment=None)
    if c.credit.kind == "sdpo":
        texts = (batch, group, asked + size)
        given = (ints(*texts), flags(*texts), own.tokens, own.length, own.logp)
        run = partial(log_ratio, policy, rule=rule)
        yield Stage("teacher", run, (share.params, *given, flags(batch, group)))
    if c.credit.kind == "gcpo":
        budget = c.credit.causal_budget
        seen, *drawn = _questions(share, batch * group * budget, asked + group * size)
        run = partial(sample_whole, policy, group=budget, rule=rule, max_tokens=size)
        yield Stage("re-generations", run, (share.params, seen, *drawn))
        again = (batch * group * budget, budget)
        texts = (prompts, own, seen, ints(*again, size), ints(*again))
        run = partial(read_group, policy, rule=rule, alpha=c.credit.causal_scale)
        yield Stage("re-generations, read", run, (share.params, *texts))
    if c.credit.compression:
        rows = (batch, group, c.counterfactual.boundaries + 1)
        spans = Spans(ints(*rows), ints(*rows), flags(*rows))
        run = partial(step_compression, policy, rule=rule)
        yield Stage("compression", run, (share.params, share.params, prompts, own, spans))


def _sites(*shape: int) -> Sites:
    rows = shape[:-1]
    return Sites(ints(*rows), ints(*shape), ints(*rows), ints(*rows), flags(*rows))


def _variants(share: Share, row: Intervention, arms: int, steps: int) -> Stage:
    """Rewritten trajectories: all of the batch, whose texts come from the host."""
    c = share.config
    count, group, size = c.batch_size * arms, c.group_size, c.sampling.max_tokens
    # `Eq` reads the last step alone, among the new answer and the old one.
    ends, wanted = (steps, c.counterfactual.max_candidates) if row.arms else (1, 2)
    rows, width = (count, group), c.data.max_prompt_tokens
    texts = Variant(ints(*rows, size), flags(*rows, size), ints(*rows, ends))
    asked = (ints(count, width), flags(count, width), texts, flags(*rows, ends))
    read = partial(variant_laws, share.policy)
    given = (share.params, *asked, share.field, share.candidates(count, wanted))
    return Stage(f"readout, {row.name}", read, given)


def reference(share: Share) -> Stage:
    """Log-probabilities of the whole batch under the reference policy, or the policy again."""
    batch = update_batch(share)
    read = partial(token_logp, share.policy, rule=behaviour_rule(share.config.sampling))
    given = (batch.prompt, batch.prompt_mask, batch.tokens, batch.mask)  # or context
    return Stage("reference", read, (share.params, *given))


def update(share: Share) -> Stage:
    """One optimizer update: gradients in float32, those of a micro-batch, activations."""
    c, params = share.config, share.own
    optimizer = optimizer_of(c.optim, c.steps)
    micro_batch = c.optim.micro_batch or c.batch_size  # whole groups, in one wording or several
    run = make_update(
        policy_loss_fn(c.objective, c.sampling, share.policy),
        optimizer,
        micro_batch=micro_batch // (c.mesh.data * c.mesh.fsdp),
        ema=c.counterfactual.ema,
        join=join_of(c.policy.lora),
    )
    average = None
    if keeps_average(c.credit, c.counterfactual):
        average = jax.tree.map(lambda x: floats(*x.shape), params)
    state = TrainState(params, jax.eval_shape(optimizer.init, params), ints(), average)
    return Stage("update", run, (state, update_batch(share), share.base), donated=1)


def update_batch(share: Share) -> UpdateBatch:
    """What the update reads."""
    c = share.config
    asked = (share.questions, c.data.max_prompt_tokens)
    branches = c.counterfactual.boundaries * c.counterfactual.draws
    more = branches if c.optim.train_branches else 0
    rows = (share.questions, c.group_size * (1 + more))
    given = (*rows, c.sampling.max_tokens)
    each = (floats(*given) for _ in range(3))
    batch = UpdateBatch(
        ints(*asked), flags(*asked), ints(*given), flags(*given), *each, floats(*rows)
    )
    if more:
        batch = dataclasses.replace(batch, reward=None, context=flags(*given))
    if c.credit.kind == "gcpo":
        batch = dataclasses.replace(batch, anchor_logp=floats(*given))
    if is_narrow(c, share.arch):
        fresh = flags(share.questions)
        batch = dataclasses.replace(batch, sampler_logp=floats(*given), fresh=fresh)
    return batch


def of_step(share: Share) -> dict[str, Stage]:
    """All stages of a training step by name, in their order; evaluation first."""
    c = share.config
    first, prompt, rollout = sampling(share)
    found = [evaluation(share), first]
    if c.reads_steps:
        found += readings(share, prompt, rollout)
    found += second_looks(share, rollout)
    if c.objective.beta > 0 or (is_narrow(c, share.arch) and c.optim.epochs > 1):
        found.append(reference(share))
    return {stage.name: stage for stage in (*found, update(share))}

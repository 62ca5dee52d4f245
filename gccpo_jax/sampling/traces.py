"""Trajectories of a batch with their caches: sampled ones, or given ones read by a policy.

Whatever reads, disturbs or continues trajectories takes this record and does not
care where they came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.policy.logprobs import in_chunks, read_prompt
from gccpo_jax.policy.token_law import Rule, entropy
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise, outcomes
from gccpo_jax.sampling.buckets import fitting
from gccpo_jax.sampling.ring_queue import sampler
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.tasks.base import Item
from gccpo_jax.types import Array, Params, Policy, Prompts, Rollout, Segment


@dataclasses.dataclass(frozen=True)
class Traces:
    """B questions with G trajectories each, verified, and the caches that encode them."""

    items: Sequence[Item]
    prompts: Prompts
    seed: tuple[int, int]  # root seed and step: with the ids, what every draw is keyed by
    keys: Array  # [B] question keys
    prompt: Segment  # [L, B, K, S, D]
    rollout: Rollout  # [B, G, T]  T: the shortest of `buckets.sizes(limit)` that holds them all
    tokens: np.ndarray  # [B, G, T] int32, `rollout.tokens` on the host
    lengths: np.ndarray  # [B, G]
    texts: np.ndarray  # [B, G] object
    outcome: np.ndarray  # [B, G] f32, NaN where unscorable
    rule: Rule  # the law that `rollout.logp` is of
    limit: int  # tokens that a response may have
    keyed: bool  # tape 0 of `keys` wrote them; False: given text, whose noise is not known

    @property
    def scorable(self) -> np.ndarray:
        """[B, G] bool"""
        return ~np.isnan(self.outcome)


@dataclasses.dataclass(frozen=True)
class Seen:
    """Trajectories as one policy holds them in its cache: who reads or continues what."""

    solver: Solver
    params: Params
    traces: Traces

    @property
    def cache(self) -> tuple[Segment, Segment]:
        """Segments of the prompts [L, B, K, S, D] and of the responses [L, B, G, K, T, D]."""
        return self.traces.prompt, self.traces.rollout.segment

    def read_by(self, params: Params) -> Seen:
        """The same trajectories in the cache of another reader (reference, average)."""
        traces = self.traces
        prompt, rollout = encode_responses(
            self.solver.policy,
            params,
            traces.prompts,
            traces.rollout.tokens,
            traces.rollout.length,
            self.solver.stop,
            rule=traces.rule,
        )
        return Seen(
            self.solver, params, dataclasses.replace(traces, prompt=prompt, rollout=rollout)
        )


def sample_traces(
    solver: Solver,
    params: Params,
    items: Sequence[Item],
    prompts: Prompts,
    *,
    group: int,
    rule: Rule,
    max_tokens: int,
    seed: tuple[int, int],
    watch: Stopwatch,
    slots: int = 0,
    surfaces: int = 1,
) -> Traces:
    """Samples the group of each question and verifies it.

    `surfaces`: rows of each question, which has so many wordings. `seed`: root seed and step.
    `slots`: see `ring_queue.sampler`.
    """
    keys = noise.question_keys(jax.random.key(seed[0]), seed[1], prompts.ids)
    if surfaces > 1:
        keys = noise.surface_keys(keys[::surfaces], surfaces)
    with watch("sample"):
        prompt, rollout = sampler(slots)(
            solver.policy,
            params,
            prompts,
            keys,
            solver.stop,
            group=group,
            rule=rule,
            max_tokens=max_tokens,
        )
        jax.block_until_ready(rollout.tokens)
    with watch("verify"):
        given = (solver, items, prompts, seed, keys, prompt, rollout, rule, max_tokens)
        return _verified(*given, keyed=True)


def encode_traces(
    solver: Solver,
    params: Params,
    items: Sequence[Item],
    prompts: Prompts,
    tokens: np.ndarray,  # [B, G, T]
    lengths: np.ndarray,  # [B, G]
    *,
    rule: Rule,
    seed: tuple[int, int],
) -> Traces:
    """The same record for given responses: the policy reads what it did not write.

    The limit is the T given. Log-probabilities are those of `rule`'s law; there is no factual
    tape (see `abduction.py` for its posterior).
    """
    keys = noise.question_keys(jax.random.key(seed[0]), seed[1], prompts.ids)
    limit = tokens.shape[-1]
    prompt, rollout = encode_responses(
        solver.policy,
        params,
        prompts,
        jnp.asarray(tokens[..., : fitting(limit, int(lengths.max()))]),
        jnp.asarray(lengths),
        solver.stop,
        rule=rule,
    )
    given = (solver, items, prompts, seed, keys, prompt, rollout, rule, limit)
    return _verified(*given, keyed=False)


@partial(jax.jit, static_argnames=("policy", "rule"))
def encode_responses(
    policy: Policy,
    params: Params,
    prompts: Prompts,
    tokens: Array,  # [B, G, T]
    length: Array,  # [B, G]
    stop: Array,  # [V] bool
    *,
    rule: Rule,
) -> tuple[Segment, Rollout]:
    """What `rollouts.sample` would have left behind, had it sampled these tokens.

    Segments [L, B, K, S, D] of the prompts and rollouts [B, G, T].
    """
    mask = jnp.arange(tokens.shape[-1])[None, None] < length[..., None]

    def one(
        prompt: Segment, at: Array, last: Array, tokens: Array, mask: Array
    ) -> tuple[Array, Segment]:
        positions = at + jnp.arange(tokens.shape[0])
        hidden, segment = policy.encode(params, tokens, positions, mask, (prompt,))
        return jnp.concatenate([last[None], hidden[:-1]]), segment

    read = partial(read_prompt, policy, params)
    last, prompt, at = jax.vmap(read, out_axes=(0, SEGMENT_AXES, 0))(prompts.tokens, prompts.mask)
    of_group = jax.vmap(one, in_axes=(None, None, None, 0, 0), out_axes=(0, SEGMENT_AXES))
    of_batch = jax.vmap(of_group, in_axes=(SEGMENT_AXES, 0, 0, 0, 0), out_axes=(0, SEGMENT_AXES))
    states, segment = of_batch(prompt, at, last, tokens, mask)

    def statistic(law: Array, tokens: Array) -> tuple[Array, Array]:
        return jnp.take_along_axis(law, tokens[:, None], axis=1)[:, 0], entropy(law)

    logp, nats = in_chunks(policy, params, states, tokens, statistic, rule=rule)
    ends = jnp.take_along_axis(tokens, jnp.maximum(length - 1, 0)[..., None], axis=-1)[..., 0]
    return prompt, Rollout(
        tokens=jnp.where(mask, tokens, 0),
        logp=jnp.where(mask, logp, 0.0),
        entropy=jnp.where(mask, nats, 0.0),
        length=length,
        stopped=stop[ends] & (length > 0),
        segment=segment,
    )


def _verified(
    solver: Solver,
    items: Sequence[Item],
    prompts: Prompts,
    seed: tuple[int, int],
    keys: Array,
    prompt: Segment,
    rollout: Rollout,
    rule: Rule,
    limit: int,
    *,
    keyed: bool,
) -> Traces:
    tokens, lengths = to_host(rollout.tokens), to_host(rollout.length)
    answers = outcomes.decode_all(solver.tokenizer, tokens, lengths)
    outcome = outcomes.outcomes(solver.task, items, answers)
    return Traces(
        items=items,
        prompts=prompts,
        seed=seed,
        keys=keys,
        prompt=prompt,
        rollout=rollout,
        tokens=tokens,
        lengths=lengths,
        texts=answers,
        outcome=outcome,
        rule=rule,
        limit=limit,
        keyed=keyed,
    )

"""Other tokens for a step, made on the device: resampled from the policy, or a sibling's.

How edits are read is `arms.py`; edits of text are `text_edits.py`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.counterfactual import text_edits
from gccpo_jax.counterfactual.interventions import identity, plausible, swap
from gccpo_jax.counterfactual.readers import on_device
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.reward.arms import Edits, Family
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import continue_branches, resampling_tapes
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.sites import Sites, boundary, replaced, step_log_likelihood
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.types import Array, Params, Spans


def own_steps(traces: Traces, spans: Spans) -> Edits:
    """Each step's own tokens, [B, G, E, 1, W]."""
    longest = int(to_host(spans.end - spans.start).max(initial=1))
    return _own_steps(traces.rollout.tokens, spans, text_edits.width_of(longest))


@partial(jax.jit, static_argnames="width")
def _own_steps(tokens: Array, spans: Spans, width: int) -> Edits:
    return jax.vmap(jax.vmap(lambda t, s: identity(t, s, width)))(tokens, spans)


def resample(
    solver: Solver,
    params: Params,
    traces: Traces,
    spans: Spans,
    *,
    arms: int,
    rule: Rule,
    min_tokens: int,
    limit: int,
) -> Edits:
    """Each step once more from the policy, `arms` times: same prefix, fresh step noise.

    A resample ends as a step does: with a boundary token once it has `min_tokens`
    tokens, a stop token, or the response's token limit.
    """
    group, steps = spans.mask.shape[1:]
    sites = _starts(traces.prompts.tokens, traces.prompts.mask, traces.rollout.tokens, spans)
    keys = resampling_tapes(traces.keys, group, steps, arms)
    tapes = Tape(keys, jnp.zeros((*keys.shape[:2], arms, 0, solver.policy.vocab_size)))
    found = continue_branches(
        solver.policy, params, traces.prompt, traces.rollout.segment, sites, tapes, solver.stop,
        solver.boundary, rule=rule, max_tokens=limit, limit=limit, min_tokens=min_tokens,
    )  # fmt: skip
    return text_edits.trim(Edits(found.tokens, found.length, found.length > 0, Family.BASELINE))


@jax.jit
def _starts(prompt: Array, prompt_mask: Array, tokens: Array, spans: Spans) -> Sites:
    of_steps = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    of_group = jax.vmap(of_steps, in_axes=(None, None, 0, 0, 0))
    length = jnp.sum(prompt_mask, axis=-1, dtype=jnp.int32)
    return jax.vmap(of_group)(prompt, length, tokens, spans.start, spans.mask)


def swapped(
    solver: Solver,
    params: Params,
    traces: Traces,
    spans: Spans,
    *,
    arms: int,
    rule: Rule,
    delta: float,
) -> Edits:
    """Siblings' steps in place of each step, where the policy might write them there."""
    own = own_steps(traces, spans)
    width = own.tokens.shape[-1]
    drawn = _swapped(traces.keys, traces.rollout.tokens, spans, width, arms)

    def likelihood(edits: Edits) -> Array:
        return step_log_likelihood(
            solver.policy, params, traces.prompts.tokens, traces.prompt, traces.rollout.tokens,
            traces.rollout.segment, sites_of(spans, edits), rule=rule,
        )  # fmt: skip

    both = Edits(
        jnp.concatenate([own.tokens, drawn.tokens], axis=3),
        jnp.concatenate([own.length, drawn.length], axis=3),
        jnp.concatenate([own.usable, drawn.usable], axis=3),
        Family.CONTENT,
    )
    found = likelihood(both)
    return plausible_of(drawn, found[..., 1:], found[..., 0], delta)


def plausible_of(edits: Edits, found: Array, factual: Array, delta: float) -> Edits:
    """`interventions.plausible` over batch and group."""
    one = partial(plausible, delta=delta)
    return jax.vmap(jax.vmap(one))(edits, found, factual)


@partial(jax.jit, static_argnames=("width", "arms"))
def _swapped(keys: Array, tokens: Array, spans: Spans, width: int, arms: int) -> Edits:
    group = tokens.shape[1]

    def question(key: Array, tokens: Array, spans: Spans) -> Edits:
        of_trajectory = noise.stream_keys(key, noise.SWAP, group)
        return jax.vmap(lambda k, i: swap(k, tokens, spans, i, width, arms))(
            of_trajectory, jnp.arange(group)
        )

    return jax.vmap(question)(keys, tokens, spans)


def sites_of(spans: Spans, edits: Edits) -> Sites:
    """The sites [B, G, E, P] behind steps that edits replace."""
    tokens, length, usable = (jnp.asarray(x) for x in (edits.tokens, edits.length, edits.usable))
    return on_device(jax.vmap(jax.vmap(replaced))(spans, tokens, length, usable))

"""Other tokens for a step: its own, a sibling's, the policy's, or none.

Pure functions of a key for one trajectory or one group, then the same over a batch. How
edits are read is `arms.py`; edits of text are `text_edits.py`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.counterfactual import text_edits
from gccpo_jax.counterfactual.places import Asked, boundary_sites
from gccpo_jax.counterfactual.readers import on_device
from gccpo_jax.reward.arms import Arms, Edits, Family
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import continue_branches, resampling_tapes
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.sites import Sites, replaced, step_log_likelihood
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.types import Array, Spans


def step_tokens(tokens: Array, start: Array, end: Array, width: int) -> tuple[Array, Array]:
    """Tokens [W] of a step (0 after its end) and how many, at most W."""
    size = tokens.shape[0]
    length = jnp.clip(end - start, 0, width).astype(jnp.int32)
    offset = jnp.arange(width)
    own = tokens[jnp.clip(start + offset, 0, size - 1)]
    return jnp.where(offset < length, own, 0), length


def identity(tokens: Array, spans: Spans, width: int) -> Edits:
    """Each step's own tokens (family: null); P is 1.

    Read through the same machinery as every other replacement, so it is also the
    factual arm that others are compared with.

    Args:
      tokens: [T]. spans: steps [E]. width: W, at least the longest step.
    """
    own, length = jax.vmap(lambda a, b: step_tokens(tokens, a, b, width))(spans.start, spans.end)
    usable = spans.mask & (length > 0)
    return Edits(own[:, None], length[:, None], usable[:, None], Family.NULL)


def swap(key: Array, tokens: Array, spans: Spans, own: Array, width: int, arms: int) -> Edits:
    """Step k of a sibling, drawn by key, in place of step k (family: content).

    Not yet filtered: only swaps that the policy might write after this prefix are to be
    kept (`plausible`).

    Args:
      key: of the trajectory. tokens: [G, T] of the group. spans: steps [G, E] of the group.
      own: [] which trajectory of the group is edited. width: W. arms: P.
    """
    group, steps = spans.mask.shape
    mine = step_tokens_of(tokens, spans, width)

    def one(step: Array, arm: Array) -> tuple[Array, Array, Array]:
        pieces, lengths = mine[0][:, step], mine[1][:, step]
        differs = jnp.any(pieces != pieces[own][None], axis=-1)
        candidate = spans.mask[:, step] & differs & (lengths > 0)
        of_arm = jax.random.fold_in(jax.random.fold_in(key, step), arm)
        rank = jnp.where(candidate, jax.random.uniform(of_arm, (group,)), -1.0)
        chosen = jnp.argmax(rank)
        return pieces[chosen], lengths[chosen], candidate[chosen] & spans.mask[own, step]

    of_arms = jax.vmap(one, in_axes=(None, 0))
    found = jax.vmap(of_arms, in_axes=(0, None))(jnp.arange(steps), jnp.arange(arms))
    return Edits(*found, Family.CONTENT)


def step_tokens_of(tokens: Array, spans: Spans, width: int) -> tuple[Array, Array]:
    """Tokens [G, E, W] and lengths [G, E] of the steps of a group."""

    def of_trajectory(tokens: Array, spans: Spans) -> tuple[Array, Array]:
        return jax.vmap(lambda a, b: step_tokens(tokens, a, b, width))(spans.start, spans.end)

    return jax.vmap(of_trajectory)(tokens, spans)


def plausible(edits: Edits, log_likelihood: Array, factual: Array, delta: float) -> Edits:
    """Keeps edits that the policy might have written itself (positivity).

        log p(s' | prefix)/|s'| >= log p(s | prefix)/|s| - delta

    Args:
      log_likelihood: [E, P] of the edits, mean a token. factual: [E] of the steps.
      delta: nats per token.
    """
    close = log_likelihood >= factual[:, None] - delta
    return Edits(edits.tokens, edits.length, edits.usable & close, edits.family)


def delete(before: Array, factual: Array, mask: Array) -> Arms:
    """The step is not there (family: content): the law one step earlier, hence free.

    Args:
      before: [C + 1] law before step 1. factual: [E, C + 1] laws after each step. mask: [E].
    Returns:
      Arms [E, 1, C + 1].
    """
    earlier = jnp.concatenate([before[None], factual[:-1]])
    return Arms(earlier[:, None], mask[:, None], Family.CONTENT, factual[:, None])


def own_steps(traces: Traces, spans: Spans) -> Edits:
    """Each step's own tokens, [B, G, E, 1, W]."""
    longest = int(to_host(spans.end - spans.start).max(initial=1))
    return _own_steps(traces.rollout.tokens, spans, text_edits.width_of(longest))


@partial(jax.jit, static_argnames="width")
def _own_steps(tokens: Array, spans: Spans, width: int) -> Edits:
    return jax.vmap(jax.vmap(lambda t, s: identity(t, s, width)))(tokens, spans)


def resample(
    seen: Seen,
    spans: Spans,
    *,
    arms: int,
    min_tokens: int,
    limit: int,
    most_tokens: int = 0,
    inside: Spans | None = None,
) -> Edits:
    """Each step once more from the policy, `arms` times: same prefix, fresh step noise.

    A resample ends as a step does: with a boundary token once it has `min_tokens`
    tokens, with `most_tokens` (0: never), a stop token, or the response's token limit. Macro-steps
    are written anew with as many steps as they have of those `inside` them.
    """
    solver, traces = seen.solver, seen.traces
    group, steps = spans.mask.shape[1:]
    sites = boundary_sites(traces, spans.start, spans.mask)
    keys = resampling_tapes(traces.keys, group, steps, arms)
    tapes = Tape(keys, jnp.zeros((*keys.shape[:2], arms, 0, solver.policy.vocab_size)))
    found = continue_branches(
        solver.policy,
        seen.params,
        *seen.cache,
        jax.tree.map(lambda x: x[:, :, :, 0], sites),
        tapes,
        solver.stop,
        solver.boundary,
        None if inside is None else steps_within(inside, spans),
        rule=traces.rule,
        max_tokens=limit,
        limit=limit,
        min_tokens=min_tokens,
        most_tokens=most_tokens,
    )
    return text_edits.trim(Edits(found.tokens, found.length, found.length > 0, Family.BASELINE))


@jax.jit
def steps_within(steps: Spans, spans: Spans) -> Array:
    """How many of the steps [B, G, E'] begin in each macro-step [B, G, E], at least 1."""
    begins = steps.start[..., None, :]
    inside = (begins >= spans.start[..., None]) & (begins < spans.end[..., None])
    return jnp.maximum(jnp.sum(inside & steps.mask[..., None, :], -1, dtype=jnp.int32), 1)


def swapped(asked: Asked, arms: int) -> Edits:
    """Siblings' steps in place of each step, where the policy might write them there."""
    seen, spans = asked.writer, asked.places.read_spans
    solver, traces = seen.solver, seen.traces
    own = own_steps(traces, spans)
    drawn = _swapped(traces.keys, traces.rollout.tokens, spans, own.tokens.shape[-1], arms)
    both = Edits(
        jnp.concatenate([own.tokens, drawn.tokens], axis=3),
        jnp.concatenate([own.length, drawn.length], axis=3),
        jnp.concatenate([own.usable, drawn.usable], axis=3),
        Family.CONTENT,
    )
    prompt, segment = seen.cache
    found = step_log_likelihood(
        solver.policy,
        seen.params,
        traces.prompts.tokens,
        prompt,
        traces.rollout.tokens,
        segment,
        sites_of(spans, both),
        rule=traces.rule,
    )
    keep = partial(plausible, delta=asked.section.swap_delta)
    return jax.vmap(jax.vmap(keep))(drawn, found[..., 1:], found[..., 0])


def equivalents(asked: Asked, arms: int) -> Edits:
    """Resamples that state what the step stated (family: nuisance)."""
    seen, spans = asked.writer, asked.places.read_spans
    sizes = asked.segmentation
    fresh = resample(
        seen,
        spans,
        arms=arms,
        min_tokens=sizes.min_tokens,
        limit=asked.limit,
        most_tokens=sizes.max_tokens,
        inside=asked.places.steps,
    )
    own = own_steps(seen.traces, spans)
    return text_edits.equivalent(seen.solver.tokenizer, fresh, own, seen.solver.task)


def corrupted(asked: Asked, arms: int) -> Edits:
    """One number of each step replaced by another plausible one (family: content)."""
    spans = asked.places.read_spans
    return text_edits.corrupt(asked.reader, spans, arms=arms, max_tokens=asked.limit)


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

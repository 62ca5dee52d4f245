"""Continued branches: the policy goes on from a site (total effect, TE).

A branch is a short suffix that attends to the trajectory's cached prefix, which
is a mask over the one segment that sampling left: nothing is copied or encoded
again, whatever the step. What a branch adds to memory is its own tokens: those of
the site (a replaced step, or one token) and those it decodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.policy.cache import decoder_of, split
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.rollouts import (
    ROW_AXES,
    SEGMENT_AXES,
    Row,
    open_row,
    run,
    stop_row,
    write_token,
)
from gccpo_jax.sampling.sites import Sites, context_of, enter, last_hidden, position_after
from gccpo_jax.types import Array, Params, Policy, Segment, record


@record
class Branches:
    """Continuations from the sites of one trajectory."""

    tokens: Array  # [E, N, T] int32
    logp: Array  # [E, N, T] f32   of each token, under the law that was sampled; 0 after the end
    length: Array  # [E, N] int32   0 where the site does not exist or has ended


@partial(jax.jit, static_argnames=("group", "draws", "first"))
def fresh_tapes(question_keys: Array, group: int, draws: int, *, first: int = 1) -> Array:
    """Keys [B, G, N] of draws 1..N of each trajectory's tape: noise for what follows a site.

    `first=0` begins with the factual tape, the one that sampling read.
    """

    def of_trajectory(key: Array) -> Array:
        return jax.vmap(lambda n: noise.tape(key, n))(jnp.arange(draws) + first)

    def of_question(key: Array) -> Array:
        return jax.vmap(of_trajectory)(noise.stream_keys(key, noise.TAPE, group))

    return jax.vmap(of_question)(question_keys)


def independent_tapes(question_keys: Array, group: int, sites: int, draws: int) -> Array:
    """Keys [B, G, E, N] of fresh draws of each trajectory's tape, others at every site.

    The first site has those of `fresh_tapes`. Differences between sites keep their mean and
    lose what shared noise takes from their variance: a control, not for use.
    """
    keys = fresh_tapes(question_keys, group, sites * draws)
    return keys.reshape(*keys.shape[:2], sites, draws)


@partial(jax.jit, static_argnames=("group", "sites", "draws"))
def resampling_tapes(question_keys: Array, group: int, sites: int, draws: int) -> Array:
    """Keys [B, G, E, N] of fresh step noise: a stream of its own, another key per step."""

    def of_step(key: Array, step: Array) -> Array:
        own = jax.random.fold_in(key, step)
        return jax.vmap(lambda n: noise.tape(own, n))(jnp.arange(draws))

    def of_question(key: Array) -> Array:
        keys = noise.stream_keys(key, noise.RESAMPLE, group)
        return jax.vmap(lambda key: jax.vmap(partial(of_step, key))(jnp.arange(sites)))(keys)

    return jax.vmap(of_question)(question_keys)


@partial(jax.jit, static_argnames="sites")
def at_sites(tapes: Tape, sites: int) -> Tape:
    """Tapes [B, G, N], the same at E sites, or [B, G, E, N] as `continue_branches` takes them."""
    if tapes.key.ndim == 4:
        return Tape(tapes.key, tapes.recorded[:, :, 0])  # keyed: R is 0
    keys = jnp.broadcast_to(
        tapes.key[:, :, None], (*tapes.key.shape[:2], sites, tapes.key.shape[2])
    )
    return Tape(keys, tapes.recorded)


_STATIC = ("policy", "rule", "max_tokens", "limit", "min_tokens", "most_tokens")


@partial(jax.jit, static_argnames=_STATIC)
def continue_branches(
    policy: Policy,
    params: Params,
    prompt: Segment,  # [L, B, K, S, D]
    segment: Segment,  # [L, B, G, K, T, D] what sampling left
    sites: Sites,  # [B, G, E, W]
    tapes: Tape,  # key [B, G, E, N]; recorded [B, G, N, R, V], the same at all sites
    stop: Array,  # [V] bool  tokens that end a response
    boundary: Array | None = None,  # [V] bool  tokens that end a step from `min_tokens` on
    steps: Array | None = None,  # [B, G, E] int32  steps that a branch writes; None: one
    *,
    rule: Rule,
    max_tokens: int,
    limit: int,
    min_tokens: int = 1,
    most_tokens: int = 0,
) -> Branches:
    """Lets the policy go on from each site, once per tape (the continued reader).

    Branch n reads its tape from `site.tape` on. With the tapes of `fresh_tapes` draws
    are independent of the factual tape 0, and arms that replace one step share their
    noise. The mean of the verified outcomes over draws is Phi at the site, unbiased for
    the policy's value under the rollout's own limit: prefix and branch together hold at
    most `limit` tokens (so a `max_tokens` below biases Phi wherever branches are cut by
    it). A site that ends with a stop token has ended: its branches are empty.

    `boundary` makes a branch end with the steps it writes, as `find_steps` cuts them (longer
    ones than `most_tokens` are split; 0 never): from the site before a step, or before a
    macro-step of as many, this is *resampling* it.

    Cost: B G E (W + N h) tokens, h the mean branch length.
    """
    lengths = jnp.sum(prompt.mask, axis=-1, dtype=jnp.int32)  # [B]
    draws = tapes.key.shape[-1]

    def open_draws(prompt: Segment, length: Array, prefix: Segment, site: Sites) -> Row:
        hidden, begun = enter(policy, params, prompt, length, prefix, site)
        row = open_row(begun, last_hidden(hidden, site), max_tokens)
        ended = stop[site.tokens[site.length - 1]] & (site.keep >= 0)
        row = stop_row(row, ~site.exists | ended | (site.keep + site.length >= limit))
        return jax.vmap(lambda _: row, out_axes=ROW_AXES)(jnp.arange(draws))

    opened = over_sites(open_draws, (0,), ROW_AXES, cache=SEGMENT_AXES)
    rows = opened(prompt, lengths, segment, sites)
    if boundary is not None:
        none = jnp.zeros_like(rows.rollout.length)  # [B, G, E, N]
        left = none + (1 if steps is None else steps[..., None])
        rows = dataclasses.replace(rows, left=left, since=none)
    weights = decoder_of(policy).unroll(params)

    def one(
        t: Array, prompt: Segment, length: Array, prefix: Segment, site: Sites, tape: Tape, row: Row
    ) -> Row:
        past = context_of(prompt, length, prefix, site)
        at = position_after(length, site)
        row = write_token(policy, weights, rule, stop, t, past, at, tape, site.tape, row)
        ends = site.keep + site.length + row.rollout.length >= limit
        if boundary is not None:
            since = row.since + 1
            closes = boundary[row.rollout.tokens[t]] & (since >= min_tokens)
            if most_tokens:
                closes |= since >= most_tokens
            left = row.left - closes
            row = dataclasses.replace(row, left=left, since=jnp.where(closes, 0, since))
            ends |= left <= 0
        return stop_row(row, ends)

    of_draws = jax.vmap(one, in_axes=(None, None, None, None, None, 0, 0))
    cached = split(prompt), lengths, split(segment)

    def step(t: Array, rows: Row) -> Row:
        mapped = over_sites(partial(of_draws, t), (0, Tape(0, None), 0), 0, cache=0)
        return mapped(*cached, sites, tapes, rows)

    result = run(step, rows, max_tokens).rollout
    return Branches(result.tokens, result.logp, result.length)


def over_sites(one: Callable[..., Any], axes: tuple, out: Any, *, cache: Any) -> Callable:
    """Maps a function of (prompt, length, prefix, *rest) over E, then G, then B.

    `axes` are those of `rest` over the sites of one trajectory; above them all of it has a
    row per trajectory. The prompt and its length are shared by the group. `out` are the axes
    of the results, and `cache` those of segments, the same three times.
    """
    rest = [0] * len(axes)
    of_sites = jax.vmap(one, in_axes=(None, None, None, *axes), out_axes=out)
    of_group = jax.vmap(of_sites, in_axes=(None, None, cache, *rest), out_axes=out)
    return jax.vmap(of_group, in_axes=(cache, 0, cache, *rest), out_axes=out)

"""Continued contrasts of every step: what an immediate readout cannot say, at a price.

    D^cf       Phi after the step minus the mean Phi after resamples of it, shared noise
    agreement  branches that end in the same answer when a number of the step is corrupted
    but-for    the same under the noise that wrote the trajectory itself: would *its* answer
               have been another? Exact for our own tapes; for given text the tape is a draw
               from its posterior (`abduction.py`)

Each arm costs as many branches as Phi does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax import reward
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.counterfactual import readers, step_edits, text_edits
from gccpo_jax.counterfactual.places import Places
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.reward.arms import Edits
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.abduction import abduct
from gccpo_jax.sampling.branches import fresh_tapes
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.types import Array, Params, Policy, Spans


def audit(
    seen: Seen,
    places: Places,
    go_on: readers.Reader,
    answers: Sequence[Sequence[str]],
    settings: Settings,
    limit: int,
) -> dict[str, np.ndarray]:
    """`counterfactual` (D^cf), `agreement` and `but_for`, each [B, G, E]; NaN where undefined.

    Args:
      places: steps; corruption acts on them without the answer field.
      go_on: the continued reader, with the draws and tapes that Phi was read with.
      answers: candidates as strings.
      settings: `audit_arms` is P; 0 measures nothing.
      limit: tokens that prefix and branch hold together.
    """
    traces, spans, read_spans = seen.traces, places.spans, places.read_spans
    names = ("counterfactual", "agreement", "but_for")
    arms, most = settings.audit_arms, settings.max_tokens
    if not arms:
        return {name: np.full(spans.mask.shape, np.nan, np.float32) for name in names}
    shortest = settings.segmentation.min_tokens
    fresh = step_edits.resample(seen, spans, arms=arms, min_tokens=shortest, limit=limit)
    changed = text_edits.corrupt(seen, read_spans, arms=arms, max_tokens=limit)
    count, tapes = settings.counterfactual.max_candidates, factual_tapes(seen)
    own_noise = readers.continued(seen, answers, count, tapes, max_tokens=most, limit=limit)
    agreement = _agreement(go_on, traces, read_spans, changed)
    return {
        "counterfactual": _gain(go_on, traces, spans, fresh),
        "agreement": agreement,
        "but_for": 1 - _agreement(own_noise, traces, read_spans, changed),
    }


def factual_tapes(seen: Seen) -> Tape:
    """The tapes [B, G, 1] behind the trajectories: keyed, or a draw from the posterior."""
    policy, traces = seen.solver.policy, seen.traces
    keys = fresh_tapes(traces.keys, traces.tokens.shape[1], 1, first=0)
    if traces.keyed:
        return noise.keyed(keys, policy.vocab_size)
    prompts, rollout = traces.prompts, traces.rollout
    recorded = _abducted(
        policy,
        seen.params,
        prompts.tokens,
        prompts.mask,
        rollout.tokens,
        rollout.length,
        keys[..., 0],
        rule=traces.rule,
    )
    return Tape(keys, recorded[:, :, None])


@partial(jax.jit, static_argnames=("policy", "rule"))
def _abducted(
    policy: Policy,
    params: Params,
    prompt: Array,
    prompt_mask: Array,
    tokens: Array,
    length: Array,
    keys: Array,
    *,
    rule: Rule,
) -> Array:
    mask = jnp.arange(tokens.shape[-1])[None, None] < length[..., None]

    def one(prompt: Array, prompt_mask: Array, tokens: Array, mask: Array, key: Array) -> Array:
        return abduct(policy, params, prompt, prompt_mask, tokens, mask, key, rule)

    of_group = jax.vmap(one, in_axes=(None, None, 0, 0, 0))
    return jax.vmap(of_group)(prompt, prompt_mask, tokens, mask, keys)


def _gain(go_on: readers.Reader, traces: Traces, spans: Spans, fresh: Edits) -> np.ndarray:
    own = go_on(step_edits.sites_of(spans, step_edits.own_steps(traces, spans))).value[..., 0]
    under = go_on(step_edits.sites_of(spans, fresh)).value
    usable = to_host(fresh.usable) & ~np.isnan(under) & ~np.isnan(own)[..., None]
    gain, known = reward.counterfactual_effect(
        jnp.asarray(np.nan_to_num(own)), jnp.asarray(np.nan_to_num(under)), jnp.asarray(usable)
    )
    return np.where(to_host(known), to_host(gain), np.nan)


def _agreement(go_on: readers.Reader, traces: Traces, spans: Spans, changed: Edits) -> np.ndarray:
    own = step_edits.own_steps(traces, spans)
    ours = go_on(step_edits.sites_of(spans, own)).answers[..., 0, :]
    theirs = go_on(step_edits.sites_of(spans, changed)).answers
    of_batch = jax.vmap(jax.vmap(jax.vmap(reward.agreement)))
    same, known = of_batch(jnp.asarray(ours), jnp.asarray(theirs), jnp.asarray(changed.usable))
    return np.where(to_host(known), to_host(same), np.nan)

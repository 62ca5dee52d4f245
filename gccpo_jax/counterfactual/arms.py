"""From edits to answer laws: the three mechanisms by which an intervention is read.

    cache   `latent_arms`: the laws come in one batch with the factual ones
    site    `replaced_arms`: do(S_k = s'), the steps as they were in the same batch
    text    `surface_arms`: the whole trajectory in other words

Arms of one batch share a compilation, so an edit that changes nothing gives the same law
bit by bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.counterfactual import text_edits
from gccpo_jax.counterfactual.places import Asked
from gccpo_jax.counterfactual.readers import laws_at
from gccpo_jax.counterfactual.rewritten import Rewritten, read_rewritten, rewritten
from gccpo_jax.counterfactual.step_edits import own_steps, sites_of
from gccpo_jax.reward.arms import Arms, Edits, Family
from gccpo_jax.sampling.traces import Seen
from gccpo_jax.types import Candidates, Spans


@dataclasses.dataclass(frozen=True)
class Intervened:
    """Laws under one intervention, and what was read there in place of the trajectory."""

    arms: Arms  # [B, G, E, P, C + 1]
    kept: float  # share of arms that could be made
    edits: Edits | None = None  # [B, G, E, P, W]  tokens in place of each step
    rewritten: Rewritten | None = None  # whole trajectories in other words


def latent_arms(asked: Asked, arms: int) -> Intervened:
    """Laws under noise on the step's cache; usable where it has tokens before the answer."""
    spans, perturbed = asked.places.read_spans, asked.latent
    has_tokens = (spans.end > spans.start) & spans.mask
    usable = jnp.broadcast_to(has_tokens[..., None], perturbed.shape[:-1])
    factual = jnp.broadcast_to(asked.factual[..., None, :], perturbed.shape)
    return Intervened(Arms(perturbed, usable, Family.NUISANCE, factual), 1.0)


def surface_arms(asked: Asked, arms: int) -> Intervened:
    """Laws of the trajectories in other words; usable where the task could rewrite them."""
    found = rewritten(asked.reader, asked.places, ["surface"], arms)
    laws, usable = read_rewritten(asked.reader, found, asked.candidates)
    factual = jnp.broadcast_to(asked.factual[..., None, :], laws.shape)
    read = Arms(laws, usable, Family.NUISANCE, factual)
    return Intervened(read, float(np.mean(found.exists)), rewritten=found)


def replaced_arms(edit: Callable[[Asked, int], Edits], asked: Asked, arms: int) -> Intervened:
    """Laws right after steps that `edit` replaced, and the edits."""
    edits = edit(asked, arms)
    found = scored_arms(asked.reader, asked.places.read_spans, edits, asked.candidates)
    share = text_edits.kept_fraction(edits, asked.places.spans.mask)
    return Intervened(found, share, edits)


def scored_arms(reader: Seen, spans: Spans, edits: Edits, candidates: Candidates) -> Arms:
    """Answer laws right after replaced steps, beside those after the steps as they were."""
    own = own_steps(reader.traces, spans)
    width = max(own.tokens.shape[-1], edits.tokens.shape[-1])

    def wide(x: Edits) -> Edits:
        missing = width - x.tokens.shape[-1]
        return Edits(
            jnp.pad(x.tokens, [(0, 0)] * 4 + [(0, missing)]), x.length, x.usable, Family.NULL
        )

    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=3), wide(own), wide(edits))
    sites = sites_of(spans, both)
    laws = laws_at(reader, sites, candidates)
    factual = jnp.broadcast_to(laws[..., :1, :], laws[..., 1:, :].shape)
    usable = jnp.asarray(edits.usable) & jnp.asarray(own.usable)
    return Arms(laws[..., 1:, :], usable, edits.family, factual)

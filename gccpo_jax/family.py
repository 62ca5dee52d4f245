"""Families of interventions: what a score may be measured against.

An answer law that stays put is a virtue under a *nuisance* intervention and a vice
under a *content* one, so arms of different families are never pooled: not by
`pool`, and not by `scores.score`, which takes one argument a family.
"""

from __future__ import annotations

import dataclasses
import enum

import jax
import jax.numpy as jnp

from gccpo_jax.errors import UserError
from gccpo_jax.types import Array


class Family(enum.Enum):
    """What an intervention leaves alone."""

    NULL = "null"  # everything: the placebo (`identity`, sigma = 0)
    NUISANCE = "nuisance"  # what the step means (`latent`, `surface`, `equivalent`)
    BASELINE = "baseline"  # the policy that wrote the step (`resample`, never filtered)
    CONTENT = "content"  # the rest of the trajectory (`swap`, `delete`, `corrupt`)


@dataclasses.dataclass(frozen=True)
class Arms:
    """Answer laws under `P` interventions of one family; P may be 0.

    A pytree whose family is static: it survives `jit` and `vmap`, and a wrong one is
    refused while tracing.
    """

    laws: Array  # [..., P, C + 1] f32  anything where not usable
    usable: Array  # [..., P] bool       the intervention took place
    family: Family


jax.tree_util.register_dataclass(Arms, data_fields=["laws", "usable"], meta_fields=["family"])


def no_arms(family: Family, shape: tuple[int, ...], entries: int) -> Arms:
    """`Arms` [*shape, 0, entries]: nothing was asked for. Scores from it are undefined."""
    return Arms(jnp.zeros((*shape, 0, entries)), jnp.zeros((*shape, 0), bool), family)


def pool(*arms: Arms) -> Arms:
    """The arms of one family one after the other along P.

    Raises:
      UserError: no arms, or two families; names both.
    """
    if not arms:
        raise UserError("pool(): expected at least one Arms; see no_arms for an empty one")
    for other in arms[1:]:
        if other.family is not arms[0].family:
            raise UserError(
                f"pool(): {arms[0].family} and {other.family} arms are never pooled; "
                "score each family by its own score"
            )
    return Arms(
        jnp.concatenate([each.laws for each in arms], axis=-2),
        jnp.concatenate([each.usable for each in arms], axis=-1),
        arms[0].family,
    )


def expect(arms: Arms, family: Family, name: str) -> Arms:
    """`arms`, if they are of the family.

    Raises:
      UserError: names the argument, its family and the one that belongs there.
    """
    if arms.family is not family:
        raise UserError(f"{name}: got {arms.family} arms, expected {family}")
    return arms

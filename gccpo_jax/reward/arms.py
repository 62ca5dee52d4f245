"""Families of interventions: what a score may be measured against.

An answer law that stays put is a virtue under a *nuisance* intervention and a vice
under a *content* one, so arms of different families are never pooled: not by
`pool`, and not by `reward.score`, which takes one argument a family.
"""

from __future__ import annotations

import dataclasses
import enum

import jax
import jax.numpy as jnp

from gccpo_jax.errors import UserError
from gccpo_jax.shapes import check
from gccpo_jax.types import Array, record


class Family(enum.Enum):
    """What an intervention leaves alone."""

    NULL = "null"  # everything: the placebo (`identity`, sigma = 0)
    NUISANCE = "nuisance"  # what the step means (`latent`, `surface`, `equivalent`)
    BASELINE = "baseline"  # the policy that wrote the step (`resample`, never filtered)
    CONTENT = "content"  # the rest of the trajectory (`swap`, `delete`, `corrupt`)


@record
class Edits:
    """Other tokens for each step of one trajectory: P arms of one family."""

    tokens: Array  # [E, P, W] int32
    length: Array  # [E, P] int32  0: the step is not there
    usable: Array  # [E, P] bool
    family: Family = dataclasses.field(metadata={"static": True})


@record
class Arms:
    """Answer laws under `P` interventions of one family; P may be 0.

    A pytree whose family is static: it survives `jit` and `vmap`, and a wrong one is
    refused while tracing.
    """

    laws: Array  # [..., P, C + 1] f32  anything where not usable
    usable: Array  # [..., P] bool       the intervention took place
    family: Family = dataclasses.field(metadata={"static": True})
    # [..., P, C + 1] the step as it was, read in the same compiled batch as each arm, so
    # that an arm which changes nothing differs by exactly nothing. None: the law that the
    # trajectory's other scores use.
    factual: Array | None = None

    def beside(self, factual: Array) -> Array:
        """What each arm is compared with [..., P, C + 1]; `factual` is [..., C + 1]."""
        if self.factual is not None:
            return self.factual
        return jnp.broadcast_to(factual[..., None, :], self.laws.shape)


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
    if len({each.factual is None for each in arms}) > 1:
        raise UserError("pool(): either all arms bring their own factual law, or none")
    check(**{f"arms[{n}].laws": (each.laws, f"... P{n} C+1") for n, each in enumerate(arms)})

    def join(*parts: Array) -> Array:
        return jnp.concatenate(parts, axis=arms[0].usable.ndim - 1)

    return jax.tree.map(join, *arms)


def expect(arms: Arms, family: Family, name: str, factual: Array) -> Arms:
    """`arms`, if they are of the family and fit the laws `factual` [..., C + 1] of the steps.

    Raises:
      UserError: names the argument, its family and the one that belongs there.
      ValueError: an axis too many or too few; names both shapes.
    """
    if arms.family is not family:
        raise UserError(f"{name}: got {arms.family} arms, expected {family}")
    own = arms.laws if arms.factual is None else arms.factual
    check(
        **{
            "factual": (factual, "... C+1"),
            f"{name}.laws": (arms.laws, "... P C+1"),
            f"{name}.usable": (arms.usable, "... P"),
            f"{name}.factual": (own, "... P C+1"),
        }
    )
    return arms

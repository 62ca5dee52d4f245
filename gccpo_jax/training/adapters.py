"""Which parameters of a run train: all of them, or low-rank adapters beside a frozen base."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax

from gccpo_jax.config import Config, LoraConfig
from gccpo_jax.objective.update import Join, all_train
from gccpo_jax.policy import lora, model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.runtime import sharding
from gccpo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parameters of a policy: those that train, and the rest."""

    own: Params
    base: Params | None  # frozen; None: all train
    join: Join  # what the policy takes, from base and own
    shardings: Any  # of own


def join_of(section: LoraConfig) -> Join:
    """How frozen parameters and those that train become what the policy takes."""
    return partial(lora.join, scale=section.alpha / section.rank) if section.rank else all_train


def shapes(section: LoraConfig, arch: Arch) -> tuple[Params, Any]:
    """Shapes and logical axes of the parameters that train."""
    whole, axes = model.abstract(arch), model.logical_axes(arch)
    if not section.rank:
        return whole, axes
    return lora.shapes(section, whole["layers"]), lora.axes(section, axes["layers"])


def parted(config: Config, mesh: jax.sharding.Mesh, arch: Arch, params: Params) -> Parts:
    """The parameters of a policy that has just been loaded, at the start of training."""
    section = config.policy.lora
    places = sharding.parameter_shardings(mesh, *shapes(section, arch))
    if not section.rank:
        return Parts(params, None, all_train, places)
    start = jax.jit(
        partial(lora.init, section, model.abstract(arch)["layers"]), out_shardings=places
    )
    return Parts(start(jax.random.key(config.seed)), params, join_of(section), places)

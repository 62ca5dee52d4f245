"""Memory of a run on each device, from shapes alone.

Kept are parameters, moments and whatever else the config asks for; key/value caches live from
sampling to the last readout; each stage adds what it needs at its peak (`stages.py` traces the
functions that train, `liveness.py` adds up what is alive). The largest sum is the peak.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.sharding import AbstractMesh

from gccpo_jax.config import Config
from gccpo_jax.counterfactual.transport import FAMILIES
from gccpo_jax.errors import UserError
from gccpo_jax.objective.update import keeps_average, optimizer_of
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.runtime import sharding
from gccpo_jax.training.adapters import shapes
from gccpo_jax.training.planning import stages
from gccpo_jax.training.planning.liveness import nbytes


@dataclasses.dataclass(frozen=True)
class Row:
    """Bytes of one device."""

    name: str
    size: int  # that this item adds
    alive: str  # when
    total: int | None = None  # of all that is alive, for a stage of the step


ALWAYS, CACHED, UPDATED = "always", "sampling to readout", "update"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run takes on each device: what it keeps for a while, and its stages."""

    kept: tuple[Row, ...]
    stages: tuple[Row, ...]

    @property
    def peak(self) -> Row:
        """The stage that needs most."""
        return max(self.stages, key=lambda row: row.total or 0)


def plan(config: Config, arch: Arch) -> Plan:
    """The memory of `config` with a policy of shape `arch`, on each device of its mesh.

    Raises:
      UserError: the mesh does not divide the parameters.
    """
    state = state_rows(config, arch)  # first: it refuses what the mesh does not divide
    always = sum(row.size for row in state)
    share = stages.share_of(config, arch)
    sampled, prompt, rollout = stages.sampling(share)
    caches = size_of((prompt, rollout))
    batch = size_of(stages.update_batch(share))
    rows: list[Row] = []

    def add(name: str, work: int, *alive: int) -> None:
        rows.append(Row(name, work, "", always + sum(alive) + work))

    found = stages.evaluation(share)
    add(found.name, found.work)
    add(sampled.name, sampled.work - caches, caches)
    if config.sampling.dynamic:  # beside the first round another one, and the two merged
        add("refill", 2 * caches, caches)
    if config.reads_steps:
        other, c = 0, config.counterfactual
        copies = {stages.READER: 1, stages.REWRITTEN: len(FAMILIES[c.transport]) * c.transport_arms}
        for found in stages.readings(share, prompt, rollout):
            add(found.name, found.work, caches, other)
            other += caches * copies.get(found.name, 0)
    for found in stages.second_looks(share, rollout):
        add(found.name, found.work, caches)
    if config.objective.beta > 0:
        found = stages.reference(share)
        add(found.name, found.work, batch)
    rows.append(_update(share, always))
    kept = (
        *state,
        Row("caches of prompts and rollouts", caches, CACHED),
        Row("batch", batch, UPDATED),
        Row("gradients", _gradients(share) // config.mesh.fsdp, UPDATED),
    )
    return Plan(kept, tuple(rows))


def plan_update(config: Config, arch: Arch) -> Row:
    """The update alone: what it adds, and all that is alive on each device at its peak."""
    always = sum(row.size for row in state_rows(config, arch))
    return _update(stages.share_of(config, arch), always)


def fitted(config: Config, arch: Arch) -> Config:
    """The config with the micro-batch that `optim.memory_gib` asks for; without it, as it is.

    It is the largest divisor of `batch_size` that the mesh divides and whose update is planned
    (`plan_update`) to keep each device within so many GiB, parameters, moments and gradients
    included. It depends on the config and the shape alone, never on the device that is there, so a
    run that resumes sums the same gradients in the same order.

    Args:
      arch: shape of the policy.
    Raises:
      UserError: the smallest does not fit; says how much it is planned to take.
    """
    optim, shards = config.optim, config.mesh.data * config.mesh.fsdp
    if not optim.memory_gib:
        return config
    sizes = [n for n in range(shards, config.batch_size + 1, shards) if config.batch_size % n == 0]
    for size in reversed(sizes):
        chosen = dataclasses.replace(optim, micro_batch=size, memory_gib=0.0)
        found = dataclasses.replace(config, optim=chosen)
        planned = plan_update(found, arch).total or 0
        if planned <= optim.memory_gib * 2**30:
            return found
    raise UserError(
        f"config.optim.memory_gib = {optim.memory_gib}: an update of micro-batches of {sizes[0]} "
        f"questions, the smallest on this mesh, is planned to take {gib(planned)} GiB on each "
        "device; give it more, set config.policy.remat, or lower config.group_size or "
        "config.sampling.max_tokens"
    )


def _update(share: stages.Share, always: int) -> Row:
    """It is traced with whole gradients; fsdp splits them."""
    found, whole = stages.update(share), _gradients(share)
    work = found.work - whole
    alive = size_of(stages.update_batch(share)) + whole // share.config.mesh.fsdp
    return Row(found.name, work, "", always + alive + work)


def _gradients(share: stages.Share) -> int:
    """Whole gradients: their float32 sum and those of a micro-batch."""
    return sum(4 * x.size + nbytes(x) for x in jax.tree.leaves(share.own))


def state_rows(config: Config, arch: Arch) -> tuple[Row, ...]:
    """What lives from the first step to the last, of one device.

    Raises:
      UserError: the mesh does not divide the parameters.
    """
    mesh = AbstractMesh(tuple(dataclasses.asdict(config.mesh).values()), ("data", "fsdp", "tensor"))
    whole, spread = model.abstract(arch), model.shardings(mesh, arch)
    params, axes = shapes(config.policy.lora, arch)
    places = sharding.parameter_shardings(mesh, params, axes)
    moments = jax.eval_shape(optimizer_of(config.optim, config.steps).init, params)
    own = size_of(params, places)
    split = size_of(moments, sharding.state_shardings(mesh, moments, places))
    rows = [Row("parameters", size_of(whole, spread), ALWAYS)]
    if config.policy.lora.rank:
        rows.append(Row("adapters", own, ALWAYS))
    rows.append(Row("moments", split, ALWAYS))
    reader = config.counterfactual.reader if config.credit.of_steps else "policy"
    compared = config.objective.beta > 0 or config.credit.compression > 0
    compared = compared or reader == "reference"
    if compared and not config.policy.lora.rank:  # beside adapters it is the base
        rows.append(Row("reference", own, ALWAYS))
    if keeps_average(config.credit, config.counterfactual):
        wide = jax.tree.map(lambda x: stages.floats(*x.shape), params)
        rows.append(Row("moving average", size_of(wide, places), ALWAYS))
        if arch.dtype != "float32":
            rows.append(Row("moving average as a policy", own, ALWAYS))
    return tuple(rows)


def size_of(tree: Any, places: Any = None) -> int:
    """Bytes of a tree of shapes; with shardings, of one device's part."""
    if places is None:
        return sum(nbytes(x) for x in jax.tree.leaves(tree))
    part = jax.tree.map(lambda x, at: stages.Shape(at.shard_shape(x.shape), x.dtype), tree, places)
    return size_of(part)


def gib(size: int | None) -> str:
    """Bytes in GiB, with three decimals."""
    return f"{(size or 0) / 2**30:,.3f}"

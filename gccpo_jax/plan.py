"""How much memory a run takes on each device, from shapes alone.

    python -m gccpo_jax.plan --config configs/quickstart.py [--config.<field>=<value> ...]
                             [--devices N]

The model need not be there: `policy.path` may be a directory with nothing but a `config.json`.
Kept are parameters, moments and whatever else the config asks for; key/value caches live from
sampling to the last readout; each stage adds what it needs at its peak (`stages.py` traces the
functions that train, `liveness.py` adds up what is alive). The largest sum is the peak.

Divided: parameters, gradients and moments over `fsdp` x `tensor`, where an axis of theirs is in
`sharding.RULES`; caches, branches and activations over `data` x `fsdp` with the questions, and
over `tensor` with heads, mlp and vocabulary. Not divided: surface and equivariance readouts and
evaluation, whose texts come from the host. Not counted: the code, what a library of the device
reserves (cuBLAS, NCCL), fragmentation, copies in another layout.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from jax.sharding import AbstractMesh

from gccpo_jax import cli, gguf_weights, model, session, sharding, stages, weights
from gccpo_jax.arch import Arch
from gccpo_jax.config import Config
from gccpo_jax.errors import UserError
from gccpo_jax.liveness import nbytes
from gccpo_jax.locate import SMOLLM2, TINY, locate
from gccpo_jax.runner import keeps_average, optimizer_of


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
    if config.credit.of_steps:
        other = 0
        for found in stages.readings(share, prompt, rollout):
            add(found.name, found.work, caches, other)
            other += caches if found.name == stages.READER else 0
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
    return sum(4 * x.size + nbytes(x) for x in jax.tree.leaves(share.params))


def state_rows(config: Config, arch: Arch) -> tuple[Row, ...]:
    """What lives from the first step to the last, of one device.

    Raises:
      UserError: the mesh does not divide the parameters.
    """
    mesh = AbstractMesh(tuple(dataclasses.asdict(config.mesh).values()), ("data", "fsdp", "tensor"))
    params = model.abstract(arch)
    places = sharding.parameter_shardings(mesh, params, model.logical_axes(arch))
    moments = jax.eval_shape(optimizer_of(config).init, params)
    own = size_of(params, places)
    split = size_of(moments, sharding.state_shardings(mesh, moments, places))
    rows = [Row("parameters", own, ALWAYS), Row("moments", split, ALWAYS)]
    reader = config.counterfactual.reader if config.credit.of_steps else "policy"
    if config.objective.beta > 0 or reader == "reference":
        rows.append(Row("reference", own, ALWAYS))
    if keeps_average(config):
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


def shape_of(config: Config) -> Arch:
    """The shape of the config's policy, from what is on this machine.

    Raises:
      UserError: a model of the hub that is not here, or one that is not supported.
    """
    path, dtype = config.policy.path, config.policy.dtype or None
    if config.policy.init == "scratch":
        return session.scratch_shape(config)
    here = pathlib.Path(path).expanduser()
    if not (here.exists() or path in (TINY, SMOLLM2)):
        raise UserError(
            f"config.policy.path = {path!r}: not on this machine, and a plan fetches nothing; put "
            "the model's config.json into a directory and set config.policy.path to that directory"
        )
    found = locate(path)
    read = gguf_weights.read_arch if found.suffix == ".gguf" else weights.read_arch
    return read(found, dtype)


def check_devices(config: Config, devices: str | None) -> None:
    """Refuses a mesh that needs more devices than there are to be; None does not limit it.

    Raises:
      UserError: says both numbers.
    """
    if devices is None:
        return
    if not devices.isdecimal() or int(devices) < 1:
        raise UserError(f"--devices {devices}: expected a whole number, at least 1")
    sizes = dataclasses.astuple(config.mesh)
    if math.prod(sizes) > int(devices):
        raise UserError(
            f"config.mesh {' x '.join(map(str, sizes))} (data x fsdp x tensor) needs "
            f"{math.prod(sizes)} devices, --devices is {devices}; lower the sizes or plan for more"
        )


def render(found: Plan, config: Config) -> Any:
    """The plan as a `rich` table."""
    from rich.table import Table

    sizes = " x ".join(map(str, dataclasses.astuple(config.mesh)))
    peak = found.peak
    micro = config.optim.micro_batch or config.batch_size
    caption = f"peak {gib(peak.total)} GiB in {peak.name}; mesh {sizes}, each device; "
    table = Table(caption=f"{caption}micro-batches of {micro} of {config.batch_size} questions")
    table.add_column("what")
    for name in ("GiB", "all that is alive"):
        table.add_column(name, justify="right")
    for row in (*found.kept, *found.stages):
        mark = " <- peak" if row is peak else ""
        total = row.alive if row.total is None else gib(row.total) + mark
        table.add_row(row.name, gib(row.size), total, end_section=row is found.kept[-1])
    return table


def gib(size: int | None) -> str:
    """Bytes in GiB, with three decimals."""
    return f"{(size or 0) / 2**30:,.3f}"


def show(
    config: Config, name: str, workdir: pathlib.Path, resume: bool, *, devices: str | None
) -> None:
    """Prints the table; `workdir` and `resume` come with the command line and are not used."""
    from rich.console import Console

    check_devices(config, devices)
    arch = shape_of(config)
    config = fitted(config, arch)
    Console().print(name, render(plan(config, arch), config), sep="\n")


def main(argv: Sequence[str]) -> int:
    """Runs the command; `--devices` is its own, the rest is that of every command."""
    rest, devices = list(argv), None
    for n, argument in enumerate(rest):
        flag, equals, value = argument.partition("=")
        if flag == "--devices":
            devices = value if equals else "".join(rest[n + 1 : n + 2])
            del rest[n : n + (1 if equals else 2)]
            break
    return cli.main(partial(show, devices=devices), __doc__, rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""How much memory a run takes on each device, from shapes alone.

    python -m gccpo_jax.plan --config configs/quickstart.py [--config.<field>=<value> ...]
                             [--devices N]

The model need not be there: `policy.path` may be a directory with nothing but a `config.json`.
What is added up, and how, is in `training/planning/memory.py`.

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

from gccpo_jax.config import Config
from gccpo_jax.errors import UserError
from gccpo_jax.policy import gguf_weights, weights
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.locate import SHIPPED, SMOLLM2, locate
from gccpo_jax.runtime import cli
from gccpo_jax.training import session
from gccpo_jax.training.planning.memory import Plan, fitted, gib, plan


def shape_of(config: Config) -> Arch:
    """The shape of the config's policy, from what is on this machine.

    Raises:
      UserError: a model of the hub that is not here, or one that is not supported.
    """
    path, dtype = config.policy.path, config.policy.dtype or None
    if config.policy.init == "scratch":
        return session.scratch_shape(config)
    here = pathlib.Path(path).expanduser()
    if not (here.exists() or path in (*SHIPPED, SMOLLM2)):
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

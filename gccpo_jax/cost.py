"""What a configuration costs: forward tokens beyond the rollout's, and FLOPs.

    python -m gccpo_jax.cost --config configs/quickstart.py [--config.<field>=<value> ...]

The formulas, and what they leave out, are in `training/planning/tokens.py`.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

from gccpo_jax.config import Config
from gccpo_jax.runtime import cli
from gccpo_jax.training.planning.tokens import Budget, at_the_limits, policy_shape


def render(found: Budget) -> Any:
    """The budget as a `rich` table."""
    from rich.table import Table

    rollout, total = found.rows[0], found.total
    unknown = "" if rollout.flops else "; for GFLOP set policy.path to a model directory"
    table = Table(caption="a trajectory at the config's token limits" + unknown)
    table.add_column("what")
    for name in ("tokens", "x rollout", f"x {found.trajectories} trajectories", "GFLOP"):
        table.add_column(name, justify="right")
    table.add_column("decoded")
    for row in (*found.rows, total):
        if row.tokens or row.name == "delete" or row is total:
            table.add_row(
                row.name,
                f"{row.tokens:,.0f}",
                f"{row.multiple:.2f}",
                f"{row.tokens * found.trajectories:,.0f}",
                "" if row.flops is None else f"{row.flops / 1e9:,.2f}",
                "yes" if row.decoded and row is not total else "",
            )
    return table


def show(config: Config, name: str, workdir: pathlib.Path, resume: bool) -> None:
    """Prints the table; `workdir` and `resume` come with the command line and are not used."""
    from rich.console import Console

    Console().print(name, render(at_the_limits(config, policy_shape(config))), sep="\n")


if __name__ == "__main__":
    sys.exit(cli.main(show, __doc__, sys.argv[1:]))

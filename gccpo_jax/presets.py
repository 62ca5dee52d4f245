"""Named configurations: the arms of the controlled study, the baselines, the variants.

    python -m gccpo_jax.train --config configs/quickstart.py:A2
    python -m gccpo_jax.presets configs/quickstart.py      (a table, with what each costs)

A preset changes a base configuration, which is A7, in the fields that make it what it is; sizes,
task, optimizer and everything else stay the base's. `gccpo` is the form that the study confirmed.
Arms keep the readings of A7 even where their credit does not use them, so that they spend the same
and log the same scores; baselines read nothing that they do not need.
"""

from __future__ import annotations

import sys

from gccpo_jax.config import freeze
from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.runtime.cli import load_config
from gccpo_jax.training.planning.tokens import at_the_limits
from gccpo_jax.training.presets import PRESETS, apply


def table(file: str) -> str:
    """A Markdown table of all presets over the base that a config file makes.

    The cost is in forward tokens, as a multiple of the base's rollouts at its token limits:
    1 is a step of GRPO. A preset that is no other than this base has none.
    """
    rows = ["| preset | what | formula | source | cost |", "| --- | --- | --- | --- | ---: |"]
    for p in PRESETS:
        names = f"`{p.name}`" + (f", `{p.also}`" if p.also else "")
        formula = p.formula.replace("|", "\\|")
        rows.append(f"| {names} | {p.what} | {formula} | {p.source} | {_cost(file, p.name)} |")
    return "\n".join(rows)


def _cost(file: str, name: str) -> str:
    base = load_config(file)[0]
    group = base.group_size
    try:
        config = freeze(apply(base, name))
    except UserError:
        return "--"
    each = 1 + at_the_limits(config, None).total.multiple
    return f"{each * config.group_size / group:.1f}"


def show(argv: list[str]) -> None:
    """Prints the table for a config file; `UserError` for other arguments."""
    if len(argv) != 1 or argv[0].startswith("-"):
        raise UserError("usage: python -m gccpo_jax.presets configs/quickstart.py")
    print(table(argv[0]))


def main(argv: list[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: show(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The trajectories of a run in the terminal: each step with its credit, its law, its branches.

    python -m gccpo_jax.view RUN            (or the --out of an analysis)

Keys: j and k go through them, f filters, / searches, i shows interventions and branches, Escape
shows all, q ends. Where there is no terminal everything is printed. Needs `gccpo-jax[view]`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from rich.console import Console

from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.report.entries import Entries, entries_of
from gccpo_jax.runtime.cli import command_parser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = command_parser("view", __doc__)
    out.add_argument("run", metavar="RUN", help="directory of a run, or of an analysis")
    return out


def run_command(argv: Sequence[str]) -> None:
    """Opens the browser, or prints where there is no terminal.

    Raises:
      UserError: see `entries_of`; or textual is not installed.
    """
    entries = entries_of(parser().parse_args(argv).run)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return print_all(entries)
    if importlib.util.find_spec("textual") is None:
        raise UserError("view: needs textual; pip install 'gccpo-jax[view]', or pipe it: | less")
    from gccpo_jax.report.browse import Browser

    Browser(entries).run()


def print_all(entries: Entries) -> None:
    """Every trajectory, one after the other."""
    console = Console(soft_wrap=True)
    for entry in entries.rows:
        console.print(entry.title, style="bold", markup=False, highlight=False)
        console.print(entry.body(True))


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: run_command(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

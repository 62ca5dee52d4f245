"""The controlled study: arms against each other over seeds, at equal updates and equal tokens.

    python -m gccpo_jax.study --config FILE[:ARGUMENT] [--workdir DIR] [--jobs N]
    python -m gccpo_jax.study --tables DIR/results.jsonl [--out docs/results]

The first runs what is not finished and writes results.jsonl; the second makes study.json,
study.md and the plots from that file alone. A plan is configs/study.py.

Exit codes: 0; 2 for a mistake of the user's; 143 or 130 where a signal ended it (the same
command goes on).
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.runtime.cli import check_ranges, command_parser, load_config
from gccpo_jax.runtime.workdir import check_place, output_path
from gccpo_jax.study.run import Interrupted, run_study

_OUT = "docs/results"


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    try:
        return exit_code(lambda: run_command(argv))
    except Interrupted as end:
        print(end, file=sys.stderr)
        return end.exit_code


def run_command(argv: Sequence[str]) -> None:
    """Parses `argv`, then runs the plan or makes the tables."""
    found = _parse(argv)
    if found.tables:
        make_tables(pathlib.Path(found.tables).expanduser(), output_path(found.out))
    else:
        run(found.config, found.workdir, found.jobs)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = command_parser("study", __doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="FILE[:ARGUMENT]", help="the plan")
    what.add_argument("--tables", metavar="FILE", help="results.jsonl of a study")
    parser.add_argument("--workdir", help="directory of the study (default runs/<plan>)")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time (1)")
    parser.add_argument("--out", default=_OUT, help=f"where tables go ({_OUT})")
    found = parser.parse_args(argv)
    check_ranges(found, {"jobs": 1})
    if found.tables and (found.workdir or found.jobs != 1):
        raise UserError("--tables is of what was run; leave --workdir and --jobs out")
    if found.config and found.out != _OUT:
        raise UserError(f"--out {found.out}: only --tables writes there; leave it out")
    return found


def run(source: str, workdir: str | None, jobs: int) -> None:
    """Runs the cells of a plan and gathers their results; says what they took."""
    from gccpo_jax.study.plan import load
    from gccpo_jax.study.results import gather

    study = load(source)
    where = output_path(workdir or f"runs/{load_config(source)[1]}")
    check_place(where)
    begun = time.monotonic()
    file = gather(study, where, run_study(study, where, jobs))
    print(f"took {(time.monotonic() - begun) / 60:.1f} minutes")
    print(f"raw results: {file}; tables: python -m gccpo_jax.study --tables {file}")


def make_tables(file: pathlib.Path, out: pathlib.Path) -> None:
    """Writes study.json, study.md and the plots from raw results."""
    from gccpo_jax.analysis.suites.tables import write
    from gccpo_jax.study import plots, tables
    from gccpo_jax.study.results import read_results
    from gccpo_jax.study.summary import summarise

    summary = summarise(read_results(file))
    page = tables.intro(summary), tables.tables(summary), summary
    paths = write(out, "study", "The controlled study", *page)
    print("written: " + ", ".join(map(str, [*paths, *plots.write_plots(summary, out)])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Injects every fault into a miniature run: the table of docs/reliability.md.

    python scripts/inject_faults.py [--only NAME ...] [--jobs 2] [--out docs/reliability.md]

Each run is `python -m gccpo_jax.train` in a process of its own. What was lost is measured: the
metrics of the run, gone on with where it ended, against those of one that nothing happened to, bit
by bit (times aside). Exit code: 1 if something was lost that should not be. `--out` replaces what
stands between the two markers of a page; without it the table is printed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import sys
import tempfile

from fault_list import FAULTS, Row
from fault_runs import Lab
from rich.console import Console
from rich.progress import Progress

BEGIN, END = "<!-- begin: scripts/inject_faults.py -->", "<!-- end: scripts/inject_faults.py -->"
HEAD = (
    "| fault, injected | what the run said | what was lost | exit code | test |\n"
    "| --- | --- | --- | --- | --- |\n"
)


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    return HEAD + "".join(
        f"| {row.fault} | {row.said} | {row.lost} | {row.code} | {row.test} |\n" for row in rows
    )


def replace_between(text: str, new: str) -> str:
    """The page with `new` between its markers."""
    before, found, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise SystemExit(f"no {BEGIN} and {END} in the page")
    return f"{before}{BEGIN}\n\n{new}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=sorted(FAULTS), default=list(FAULTS))
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    if options.out:  # a page that cannot take the table is told of before the runs, not after them
        replace_between(options.out.read_text(encoding="utf-8"), "")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        lab = Lab(pathlib.Path(folder))
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("the run without a fault", total=len(options.only) + 1)
            lab.make_reference()
            rows: list[Row] = []
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                running = [pool.submit(FAULTS[name], lab) for name in options.only]
                for name, one in zip(options.only, running, strict=True):
                    progress.update(task, advance=1, description=name)
                    rows.append(one.result())
                    progress.console.print(f"{name}: {rows[-1].lost}", markup=False)
                progress.update(task, advance=1)
    if options.out:
        page = replace_between(options.out.read_text(encoding="utf-8"), table(rows))
        options.out.write_text(page, encoding="utf-8")
    print(table(rows), end="")
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())

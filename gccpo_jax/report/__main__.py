"""One HTML page of a run: learning curves, and why each step of its solutions was rewarded.

    python -m gccpo_jax.report RUN [RUN ...] [--out FILE]
    python -m gccpo_jax.report RUN --live [PORT]       (while the run goes on, for this machine)
    python -m gccpo_jax.report ANALYSIS [--out FILE]   (what each step did to the answer)

RUN is a directory that `python -m gccpo_jax.train` wrote, ANALYSIS one that
`python -m gccpo_jax.analyse` wrote, finished or not. The page opens from the disk and asks for
nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.report.live import ADDRESS, server
from gccpo_jax.report.sources import page_of
from gccpo_jax.runtime.cli import command_parser
from gccpo_jax.runtime.workdir import output_path, write_text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = command_parser("report", __doc__)
    out.add_argument("runs", nargs="+", metavar="RUN", help="directory of a run, or of an analysis")
    out.add_argument("--out", metavar="FILE", help="default: report.html in the first RUN")
    out.add_argument(
        "--live",
        nargs="?",
        type=int,
        const=8765,
        metavar="PORT",
        help="serve it on 127.0.0.1 and show new steps as they come (8765)",
    )
    return out


def run_command(argv: Sequence[str]) -> None:
    """Writes the page and says where it is.

    Raises:
      UserError: see `page_of`; or the page could not be written.
    """
    arguments = parser().parse_args(argv)
    page = page_of(arguments.runs)
    if arguments.live is not None:
        if arguments.out or not 0 <= arguments.live < 2**16:
            raise UserError(f"--live {arguments.live}: expected a port, and no --out beside it")
        return serve(arguments.runs, arguments.live)
    out = output_path(arguments.out) if arguments.out else None
    file = out or pathlib.Path(arguments.runs[0]) / "report.html"
    try:
        write_text(file, page.text)
    except OSError as error:
        raise UserError(
            f"--out {file}: cannot be written ({error.strerror}); choose another file"
        ) from error
    size = len(page.text.encode()) / 1e6
    print(f"{file}: {size:.2f} MB, {page.trajectories} trajectories recorded")


def serve(runs: Sequence[str], port: int) -> None:
    """Serves the page until Ctrl-C."""
    with server(runs, port) as running:
        print(f"http://{ADDRESS}:{running.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        running.serve_forever()


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: run_command(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

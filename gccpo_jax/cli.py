"""The command line shared by `train` and `sft`: a config file, overrides, a workdir."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Sequence

from gccpo_jax.config import Config, freeze
from gccpo_jax.errors import UserError

Run = Callable[[Config, str, pathlib.Path, bool], None]
"""(config, its name, workdir, resume) -> None"""


def main(run: Run, argv: Sequence[str]) -> int:
    """Parses `argv`, runs, and returns the exit code: 0, or 2 for a mistake of the user's."""
    try:
        config, name, workdir, resume = parse(argv)
        run(config, name, workdir, resume)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse(argv: Sequence[str]) -> tuple[Config, str, pathlib.Path, bool]:
    """The checked config, its name, the workdir and whether to resume.

    Raises:
      UserError: an unknown flag or field, a bad value, a config file that does not load.
    """
    from absl import flags
    from ml_collections import config_flags

    from gccpo_jax.workdir import default_workdir

    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Configuration file; override fields with --config.<field>=<value>.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "workdir", None, "Directory of the run (default runs/<config>-<time>).", flag_values=values
    )
    flags.DEFINE_bool("resume", False, "Go on with the run in --workdir.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values)
    try:
        rest = values(list(argv))
    except UserError:
        raise
    except Exception as error:  # absl and ml_collections raise a class for each kind of mistake
        raise UserError(_one_line(error)) from error
    if values.help:
        print(f"usage: python -m {argv[0]} --config FILE [--config.<field>=<value> ...]\n")
        print(values.get_help())
        raise SystemExit(0)
    if len(rest) > 1:
        raise UserError(f"{rest[1]}: unexpected argument; fields are set as --config.<field>=...")
    if values.config is None:
        raise UserError("--config is missing; give a file such as configs/quickstart.py")
    if values.resume and values.workdir is None:
        raise UserError("--resume needs --workdir: which run to go on with")
    source = config_flags.get_config_filename(values["config"])
    name = pathlib.Path(source).stem
    workdir = pathlib.Path(values.workdir) if values.workdir else default_workdir(name)
    return freeze(values.config), name, workdir, values.resume


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:397] + "..."

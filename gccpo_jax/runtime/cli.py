"""The command line shared by `train` and `sft`: a config file, overrides, a workdir.

    python -m gccpo_jax.train --config FILE[:ARGUMENT] [--config.<field>=<value> ...]
                              [--workdir DIR] [--resume] [--profile [STEPS]]
                              [--processes N --process I --coordinator HOST:PORT [--wait S]]
                              [--processes auto]

With `--processes` the command is started once per process (docs/scaling.md).

Exit codes: 0; 2 for a mistake of the user's; 143 or 130 for a run that SIGTERM or
SIGINT ended and that `--resume` goes on with.

A config file is Python with a function `get_config` that returns an
`ml_collections.ConfigDict`; `FILE:ARGUMENT` calls `get_config(ARGUMENT)`.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import os
import pathlib
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from gccpo_jax.config import Config, freeze
from gccpo_jax.config.fields import field_type
from gccpo_jax.errors import INTERRUPTED, UserError, enough_memory, raising
from gccpo_jax.runtime import distributed
from gccpo_jax.runtime.signals import Preempted, on_interrupt
from gccpo_jax.runtime.workdir import check_place, default_workdir, output_path

Run = Callable[[Config, str, pathlib.Path, bool], Any]
"""(config, its name, workdir, resume) -> what the caller may use"""

_FREE = ("task.options.", "data.template.")
"""Sections whose fields are known to the task and the chat template, not to the config."""

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def main(run: Run, description: str, argv: Sequence[str]) -> int:
    """Parses `argv`, runs, and returns the exit code."""
    try:
        arguments = parse(description, argv)
        if place := place_of(argv):
            distributed.connect(place)
        # While it starts; `Signals` ends steps in good order.
        with raising(), enough_memory(), on_interrupt(_leave), rare_collections():
            run(*arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return distributed.end(2, str(error))
    except Preempted as end:
        if distributed.is_first():
            print(f"{end}; go on with: {resume_command(arguments[2])}", file=sys.stderr)
        return end.exit_code
    except BaseException as error:
        if jax.distributed.is_initialized():  # or the others would wait for this one
            traceback.print_exc()
            return distributed.end(1, repr(error))
        raise
    return 0


@contextlib.contextmanager
def rare_collections(objects: int = 20_000) -> Iterator[None]:
    """Python looks for garbage after so many new objects, not after 700.

    Tracing makes many that stay: a sixth of its time was spent looking through them.
    """
    before = gc.get_threshold()
    gc.set_threshold(objects)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _leave() -> None:
    """Ends the process: nothing is under way that would have to be saved."""
    print(f"{INTERRUPTED} before the first step", file=sys.stderr, flush=True)
    os._exit(distributed.end(130, INTERRUPTED))


def resume_command(workdir: pathlib.Path) -> str:
    """This process's command line, with its working directory and `--resume`."""
    words = list(sys.orig_argv)
    if not any(word.partition("=")[0] == "--workdir" for word in words):
        words += ["--workdir", str(workdir)]
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def typed() -> str:
    """This process's command line, as it would be typed anywhere."""
    words = list(sys.orig_argv)
    return shlex.join(["python" if words[:1] == [sys.executable] else words[0], *words[1:]])


def parse(description: str, argv: Sequence[str]) -> tuple[Config, str, pathlib.Path, bool]:
    """The checked config, its name, the workdir and whether to resume.

    Raises:
      UserError: an unknown flag or field, a bad value, a config file that does not load.
    """
    parser = Parser(description=description, allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE[:ARGUMENT]", help="config file")
    parser.add_argument("--workdir", help="directory of the run (default runs/<config>-<time>)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --workdir")
    parser.add_argument(
        "--profile",
        nargs="?",
        type=int,
        const=1,
        metavar="STEPS",
        help="trace this many steps (1) for Perfetto and TensorBoard: --config.log.profile=STEPS",
    )
    _add_place(parser)
    parser.epilog = (
        "Override fields with --config.<field>=<value>; see gccpo_jax/config/sections.py."
    )
    known, rest = parser.parse_known_args(argv)
    if known.resume and known.workdir is None:
        raise UserError("--resume needs --workdir: which run to go on with")
    if known.processes and known.workdir is None:
        raise UserError("--processes needs --workdir: one folder that all processes see")
    config, name = load_config(known.config)
    for path, text in overrides(rest):
        set_field(config, path, text)
    if known.profile is not None:
        config.log.profile = known.profile
    workdir = default_workdir(name) if known.workdir is None else output_path(known.workdir)
    check_place(workdir)
    return freeze(config), name, workdir, known.resume


def place_of(argv: Sequence[str]) -> distributed.Place | None:
    """This process among several, None if there is one.

    Raises:
      UserError: some of the flags without the others, or numbers that cannot be.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    _add_place(parser)
    known, _ = parser.parse_known_args(argv)
    given = (known.coordinator, known.process)
    if not known.processes:
        if any(value is not None for value in given):
            raise UserError("--coordinator and --process need --processes: how many there are")
        return None
    if known.wait < 1:
        raise UserError(f"--wait {known.wait}: expected seconds, at least 1")
    if known.processes == "auto" and given == (None, None):
        return distributed.Place(seconds=known.wait)
    if not known.processes.isdecimal() or None in given:
        raise UserError(
            f"--processes {known.processes}: expected a number together with --coordinator "
            "HOST:PORT and --process I, or 'auto' without them"
        )
    count = int(known.processes)
    if not 0 <= known.process < count:
        raise UserError(f"--process {known.process}: expected 0 to {count - 1} of {count}")
    if not known.coordinator.rpartition(":")[2].isdecimal() or ":" not in known.coordinator:
        raise UserError(f"--coordinator {known.coordinator}: expected HOST:PORT")
    return distributed.Place(known.coordinator, count, known.process, known.wait)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", metavar="N", help="of the run, or 'auto': a cluster's own")
    parser.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is reached")
    parser.add_argument("--wait", type=int, default=300, metavar="S", help="seconds to connect")


class Parser(argparse.ArgumentParser):
    """Mistakes on the command line are errors of the user's: one line, no usage."""

    def error(self, message: str) -> None:
        raise UserError(message)


def command_parser(command: str, description: str) -> Parser:
    """That of `python -m gccpo_jax.<command>`, which shows its description as it stands."""
    return Parser(
        prog=f"python -m gccpo_jax.{command}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def check_ranges(arguments: argparse.Namespace, least: Mapping[str, float]) -> None:
    """Checks options that are numbers: at least so much, finite, and no more than 32 bits hold.

    Args:
      least: the least value of each, by its name in `arguments`; None there is not looked at.
    Raises:
      UserError: one is not.
    """
    for name, low in least.items():
        value, bits = getattr(arguments, name), 32 if name == "seed" else 31
        if value is None:
            continue
        flag = f"--{name.replace('_', '-')} {value}"
        if not value >= low:
            raise UserError(f"{flag}: expected at least {low}")
        if value >= 2**bits:
            raise UserError(f"{flag}: expected a number below 2**{bits}")


def load_config(source: str) -> tuple[Any, str]:
    """The `ConfigDict` that a config file makes, and its name: file and argument.

    Raises:
      UserError: no such file, no `get_config`, or an error inside it (with its line).
    """
    source = os.path.expanduser(source)
    file, argument = source, ()
    if not pathlib.Path(source).is_file() and ":" in source:
        file, _, text = source.rpartition(":")
        argument = (text,)
    path = pathlib.Path(file)
    if not path.is_file():
        raise UserError(f"--config {file}: no such file; try configs/quickstart.py")
    try:
        found = runpy.run_path(str(path.absolute()))
        if "get_config" not in found:
            raise UserError(f"--config {file}: it has no function get_config")
        config = found["get_config"](*argument)
    except UserError:
        raise
    except Exception as error:  # the user's own code may raise anything
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        raise UserError(f"--config {file}, line {line}: {type(error).__name__}: {error}") from error
    if not hasattr(config, "to_dict"):
        kind = type(config).__name__
        raise UserError(f"--config {file}: get_config returned {kind}, expected a ConfigDict")
    return config, "-".join([path.stem, *argument])


def overrides(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (path, value) from `--config.<path>=<value>` or `--config.<path> <value>`."""
    pairs, rest = [], list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if not flag.startswith("--config."):
            raise UserError(f"{flag}: unknown argument; fields are set as --config.<field>=<value>")
        if not equals:
            if not rest:
                raise UserError(f"{flag}: a value is missing; write {flag}=<value>")
            value = rest.pop(0)
        pairs.append((flag.removeprefix("--config."), value))
    return pairs


def set_field(config: Any, path: str, text: str) -> None:
    """Sets the field at a dotted path from its text on the command line.

    A task's options are not known before the task is, nor a chat template's variables before
    the tokenizer is: they are read as Python literals (or true and false), and as text where
    they are none, and checked later.

    Raises:
      UserError: no such field (names those of its section), or a value of another type.
    """
    if path.startswith(_FREE):
        section, name, field = path.split(".", 2)
        free = config[section][name]
        try:
            with free.unlocked(), free.ignore_type():
                free[field] = literal(text)
        except ValueError as error:  # dots in a name
            raise UserError(f"config.{path} = {text!r}: {error}") from None
        return
    kind = field_type(Config, path)
    section, _, name = path.rpartition(".")
    target = config
    for part in section.split(".") if section else ():
        target = target[part]
    try:
        value = _BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise UserError(f"config.{path} = {text!r}: expected {kind.__name__}") from None
    target[name] = value


def literal(text: str) -> Any:
    """A Python literal, true or false; the text itself where it is none."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text  # the last three: a list as a key, thousands of signs or brackets

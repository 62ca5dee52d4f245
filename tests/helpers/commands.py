"""Command lines as the docs show them: do command, options, configs and files exist?

Nothing is run. `check` raises for what could not be typed: an option that no command has, a
field or preset that does not exist, a file that is not there, an extra that is not declared.
"""

import importlib
import re
import shlex

from gccpo_jax.runtime import cli
from gccpo_jax.study.plan import load as load_plan
from tests.helpers.paths import ROOT

EXTRAS = set(re.findall(r'^        "([\w-]+)": ', (ROOT / "setup.py").read_text(), re.M))
OURS = re.compile(r"python (?:-m (?:gccpo_jax|pip|pytest|sphinx)|(?:benchmarks|examples|scripts)/)")
"""What a command line begins with that this project answers for."""


def lines(block):
    """The command lines of a shell block, each as one line without its comment."""
    joined = re.sub(r"\\\n\s*", " ", block)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def ours(line):
    """The words of every command of this project in a line, also inside another's quotes."""
    line = re.sub(r"\s#.*", "", line)
    for found in OURS.finditer(line):
        rest = re.split(r"&&|\|", line[found.start() :])[0]
        if rest.count('"') % 2:  # it stood in quotes
            rest = rest.rpartition('"')[0]
        yield [word for word in shlex.split(rest) if word != "$RESUME"]


def check(words):
    """Raises an error if a command of this project could not be typed so."""
    python, *rest = words
    if rest[0] != "-m":
        return _program(*rest)
    name, argv = rest[1], rest[2:]
    if name == "pip":
        named = re.findall(r"\.\[([\w,-]+)\]", " ".join(argv))
        missing = {extra for names in named for extra in names.split(",")} - EXTRAS
        assert not missing, f"no such extra: {missing}"
    elif name == "pytest":
        places = [word for word in argv if word.startswith("tests")]
        assert all((ROOT / place).exists() for place in places), argv
    elif name.startswith("gccpo_jax."):
        parsed(name, argv)


def parsed(module, argv):
    """Parses the arguments of `python -m gccpo_jax.<command>` as the command does."""
    command = module.removeprefix("gccpo_jax.")
    found = module_of(command)
    if not argv:
        return found.main
    if command == "plan":
        argv = re.sub(r"--devices[ =]\S+ ?", "", shlex.join(argv)).split()
    if command in ("train", "sft", "cost", "plan"):
        argv = ["0" if word == "I" else word for word in argv]  # which process this is
        cli.place_of(argv)
        return cli.parse(command, argv)
    if command == "presets":
        return found.table(*argv)
    if command == "variance":
        asked, rest = found._parse(argv)
        return found.configs_of(asked.config, asked.presets, cli.overrides(rest))
    if command == "study":
        asked = found._parse(argv)
        return asked.config and load_plan(asked.config)
    return found.parser().parse_args(argv)


def module_of(command):
    """The module that `python -m gccpo_jax.<command>` runs."""
    folder = (ROOT / "gccpo_jax" / command).is_dir()
    return importlib.import_module(f"gccpo_jax.{command}" + ".__main__" * folder)


def _program(file, *argv):
    source = (ROOT / file).read_text(encoding="utf-8")
    if "cli.main(" in source:  # the command line of `train`
        return cli.parse(file, argv)
    options = [word.partition("=")[0] for word in argv if word.startswith("--")]
    missing = [option for option in options if f'"{option}"' not in source]
    assert not missing, f"{file} has no {missing}"

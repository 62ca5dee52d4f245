"""Imports go one way: a room imports rooms below it, and no file is imported in a circle."""

import ast
import graphlib
import pathlib

import pytest

import gccpo_jax

PACKAGE = pathlib.Path(gccpo_jax.__file__).parent

# What each room may import, directly; what is below those is allowed too. The commands, which
# are files beside the rooms, may import everything, and nothing imports them.
GROUND = {"types", "errors", "masked", "steps", "shapes"}
BELOW = {
    "ground": (),
    "config": ("ground",),  # any room may take its own section
    "runtime": ("config",),
    "statistics": ("ground",),
    "tasks": ("ground",),
    "reward": ("config",),
    "advantage": ("reward",),
    "policy": ("runtime",),
    "objective": ("policy",),
    "sampling": ("policy", "tasks"),
    "counterfactual": ("sampling", "reward"),
    "training": ("counterfactual", "advantage", "objective", "statistics"),
    "analysis": ("counterfactual", "advantage", "statistics"),
    "evaluation": ("sampling", "statistics"),
    "study": ("training", "analysis"),
    "report": ("training", "analysis"),
}
WITHOUT_JAX = ("config", "tasks")
JAX_ALONE = ("reward", "advantage")


def modules():
    """{dotted name: file} of the package."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = file
    return found


MODULES = modules()


def room_of(module):
    top = module.split(".")[0]
    if top in BELOW:
        return top
    return "ground" if top in GROUND or not top else "commands"


def below(room):
    """The rooms that a room may import, itself included."""
    return {room}.union(*(below(lower) for lower in BELOW[room]))


def imported(file):
    """(modules of the package, top-level names of others) that a file imports anywhere in it."""
    ours, others = set(), set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            full = [f"{base}.{alias.name}" for alias in node.names]
            names = [n if n.removeprefix("gccpo_jax.") in MODULES else base for n in full]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "gccpo_jax":
                ours.add(rest)
            else:
                others.add(package)
    return ours, others


IMPORTS = {module: imported(file) for module, file in MODULES.items()}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_imports_its_own_room_and_those_below(module):
    room = room_of(module)
    allowed = set(BELOW) if room == "commands" else below(room)
    if room == "commands":  # a command may build on another
        allowed |= {"commands"}
    up = sorted(name for name in IMPORTS[module][0] if room_of(name) not in allowed)
    assert not up, f"{module} ({room}) imports {up}; {room} may import {sorted(allowed)}"


def test_no_file_is_imported_in_a_circle():
    graph = {module: ours - {module} for module, (ours, _) in IMPORTS.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_library_needs_jax_alone_and_text_needs_none():
    heavy = {"flax", "optax", "orbax", "transformers", "rich", "ml_collections"}
    for module, (_, others) in IMPORTS.items():
        room = room_of(module)
        if room in WITHOUT_JAX:
            assert "jax" not in others, module
        if room in JAX_ALONE:
            assert not others & heavy, module

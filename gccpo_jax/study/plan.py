"""What a study is: arms x seeds, each from the same policy per seed, at two budgets.

    equal updates    every arm makes `updates` updates
    equal tokens     every arm makes as many updates as `budget` forward tokens pay for

A plan is a Python file whose `get_config` returns `default()` with some fields changed
(configs/study.py). A cell is one run of `python -m gccpo_jax.train`; the second budget is a run
of its own, with its own schedule, wherever the number of updates is another.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from gccpo_jax.config import Config, freeze
from gccpo_jax.config.fields import build, field, fraction, least
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.cli import load_config, set_field

_OF_THE_STUDY = ("seed", "steps", "eval.every", "policy.path")
"""Fields of a cell that the plan sets itself."""


@dataclasses.dataclass(frozen=True)
class Study:
    """The plan, checked."""

    confirms: bool = False  # True: seeds were not looked at before the plan was written
    base: str = field(  # its get_config(preset) makes a cell's configuration
        "configs/quickstart.py", lambda file: ":" not in file, "a config file without an argument"
    )
    # {arm: "<preset> <field>=<value> ..."}: what makes it another arm, as on the command line.
    arms: dict = dataclasses.field(default_factory=lambda: {"A0": "A0", "A7": "A7"})
    method: str = "A7"  # the arm that the claim is about
    rivals: tuple = ("A0",)  # arms that it is compared with
    pairs: tuple = ()  # more comparisons, as "A15s-A15": the first minus the second
    seeds: tuple = field((0,), lambda s: len(s) > 0, "at least one seed")
    updates: int = least(1, 60)  # of every arm
    # Forward tokens of every arm in the second comparison; 0: what the dearest arm spends in
    # `updates` with the same seed.
    budget: float = least(0, 0.0)
    matched: bool = True  # whether there is a second comparison
    # Where the budget pays for `updates` within this share, their cell stands for both comparisons.
    tolerance: float = fraction(0.0)
    evaluate_every: int = least(0, 20)  # updates; 0: before and after only
    changes: str = ""  # "<field>=<value> ..." of all cells
    # The policy that a seed's cells start from: "" is the base's own, "{seed}" is put in.
    policy: str = ""
    sft: str = ""  # a config file of `gccpo_jax.sft` that trains one per seed; not with `policy`
    in_distribution: str = "id"  # family of the training questions' law
    primary: tuple = ("label_wrong", "label_absent")  # families that the claim is about


def default() -> Any:
    """A mutable `ml_collections.ConfigDict` with every field of `Study` at its default."""
    import ml_collections

    return ml_collections.ConfigDict(dataclasses.asdict(Study()))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study."""

    name: str  # of its folder
    command: str  # "train" or "sft"
    arm: str  # "" for "sft"
    seed: int
    updates: int
    words: tuple[str, ...]  # of the command line, without the workdir
    config: Config


def load(source: str) -> Study:
    """The plan that FILE or FILE:ARGUMENT makes.

    Raises:
      UserError: a field or value that does not fit, or a cell whose configuration does not.
    """
    study = freeze_study(load_config(source)[0].to_dict())
    for arm in study.arms:
        cell(study, arm, study.seeds[0], study.updates, "")
    return study


def freeze_study(mapping: dict) -> Study:
    """The plan of a nested dict, of JSON for example; its cells are not looked at.

    Raises:
      UserError: a field or value that does not fit.
    """
    mapping = {k: tuple(v) if isinstance(v, list) else v for k, v in mapping.items()}
    study = build(Study, mapping, "study")
    for arm, words in study.arms.items():
        if not (re.fullmatch(r"\w+", arm) and isinstance(words, str) and words.strip()):
            raise UserError(
                f"study.arms.{arm} = {words!r}: expected a name of letters, digits and _, and "
                "'<preset> <field>=<value> ...'"
            )
    for name, arms in (("method", [study.method]), ("rivals", study.rivals)):
        _check_arms(study, f"study.{name}", arms)
    for pair in study.pairs:
        _check_arms(study, f"study.pairs: {pair!r}", pair.split("-"))
    if study.policy and study.sft:
        raise UserError(
            f"study.policy = {study.policy!r} with study.sft = {study.sft!r}: expected one of "
            "them; leave the other empty"
        )
    if len(set(study.seeds)) != len(study.seeds):
        raise UserError(f"study.seeds = {study.seeds}: expected each seed once")
    return study


def _check_arms(study: Study, where: str, arms: Sequence[str]) -> None:
    for arm in arms:
        if arm not in study.arms:
            raise UserError(f"{where}: there is no arm {arm!r}; there are {', '.join(study.arms)}")


def cell(study: Study, arm: str, seed: int, updates: int, start: str) -> Cell:
    """The run of an arm and a seed.

    Args:
      start: folder of the policy that it starts from; "" is the base's own.

    Raises:
      UserError: there is no such preset, or a field or value does not fit.
    """
    preset, *changes = study.arms[arm].split()
    fields = [f"seed={seed}", f"steps={updates}", f"eval.every={study.evaluate_every}"]
    fields += [f"policy.path={start}"] if start else []
    return _cell(
        f"{arm}-seed{seed}-updates{updates}",
        "train",
        arm,
        seed,
        f"{study.base}:{preset}",
        fields,
        [*study.changes.split(), *changes],
    )


def start_cell(study: Study, seed: int) -> Cell:
    """The supervised run whose policy all arms of a seed start from (`study.sft`)."""
    return _cell(f"start-seed{seed}", "sft", "", seed, study.sft, [f"seed={seed}"], [])


def _cell(
    name: str, command: str, arm: str, seed: int, source: str, fields: list, changes: list
) -> Cell:
    config = load_config(source)[0]
    for path, equals, value in (word.partition("=") for word in [*fields, *changes]):
        if not equals:
            raise UserError(f"study.arms.{arm}: {path!r}: expected <field>=<value>")
        set_field(config, path, value)
    if own := [w for w in changes if w.partition("=")[0] in _OF_THE_STUDY]:
        raise UserError(f"study.arms.{arm}: {own[0]!r} is set by the study; leave it out")
    words = ("--config", source, *(f"--config.{word}" for word in [*fields, *changes]))
    frozen = freeze(config)
    return Cell(name, command, arm, seed, frozen.steps, words, frozen)


def comparisons(study: Study) -> dict[str, tuple[str, str]]:
    """{name: (first arm, second arm)}; "method-A0" and so on, then the pairs."""
    named = {f"method-{rival}": (study.method, rival) for rival in study.rivals}
    return named | {pair: tuple(pair.split("-")) for pair in study.pairs}


def matched_updates(budget: float, tokens: float, updates: int) -> int:
    """How many updates `budget` forward tokens pay for, where `updates` of them took `tokens`.

    >>> matched_updates(1000.0, 250.0, 10)
    40
    """
    return max(round(budget * updates / tokens), 1)

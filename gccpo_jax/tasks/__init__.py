"""Tasks: questions, answers and rewrites. `load_task` makes one from its name."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.files import held_out_id, published_splits, read_records
from gccpo_jax.tasks.own import own_task

__all__ = ["TASKS", "Item", "Row", "Task", "bare_task", "load_task", "make_tokenizer", "read_task"]


@dataclasses.dataclass(frozen=True)
class Row:
    """Where a task lives; its module is imported when it is asked for."""

    module: str  # in this room; has `of_splits({name: items}) -> Task` if `bare`
    function: str = "of_splits"  # that makes it; this one, of the rows of files as published
    options: str = ""  # what its options are fields or arguments of; "": the function
    files: bool = False  # its first arguments are training and held-out files; `to_item` reads
    named: bool = False  # its first argument is what comes after the colon of its name
    bare: bool = True  # it can read questions from elsewhere
    tokenizer: str = ""  # its module that builds one, for policies from random weights; "": none


TASKS = {
    "chain": Row("chain.suite", "chain", options="ChainConfig", tokenizer="chain.tokenizer"),
    "gsm8k": Row("gsm8k", "gsm8k", files=True),
    "math": Row("open_math", "math", files=True),
    "humaneval": Row("code.humaneval", files=True),
    "mbpp": Row("code.mbpp", files=True),
    "swe_bench": Row("code.swe_bench", files=True),
    "programs": Row(
        "programs.suite", "programs", options="ProgramsConfig", tokenizer="programs.tokenizer"
    ),
    "quixbugs": Row("code.quixbugs", files=True),
    "reasoning_gym": Row("reasoning_gym", "reasoning_gym", named=True, bare=False),
}
"""A task is a new file and a row here."""


def load_task(name: str, path: str = "", eval_path: str = "", **options: Any) -> Task:
    """A task by its name.

    Args:
        name: a row of `TASKS`, with what it is about after a colon: "reasoning_gym:<data set>";
            or a function of the user's, "package.module:function", see `own.own_task`.
        path: training questions, for the tasks that read files.
        eval_path: held-out questions, for the tasks that read files.
        **options: the task's own: the fields of `ChainConfig`, or the arguments
            of `gsm8k`, `math`, `reasoning_gym` or of `of_splits` in `tasks.code`.

    Raises:
        UserError: an unknown name or option, or a value of the wrong type.

    >>> load_task("chain", train=100, id=10, ood=10).name
    'chain'
    """
    kind, _, about = name.partition(":")
    row = TASKS.get(kind)
    if row is None and about:
        paths = {"path": path, "eval_path": eval_path}
        return own_task(name, {key: text for key, text in paths.items() if text} | options)
    if row is None or row.named != bool(about):
        names = [f"{key}:<data set>" if each.named else key for key, each in TASKS.items()]
        raise UserError(
            f"there is no task {name!r}; there are {', '.join(names)}, and your own, "
            "'package.module:function'"
        )
    if not row.files and (path or eval_path):
        readers = ", ".join(key for key, each in TASKS.items() if each.files)
        raise UserError(
            f"task {name!r} makes its questions itself; leave data.path empty, or take a config "
            f"whose task.name reads files: {readers}"
        )
    module = importlib.import_module(f"{__name__}.{row.module}")
    make = getattr(module, row.function)
    options = _checked(name, getattr(module, row.options or row.function), options)
    if row.options:
        return make(getattr(module, row.options)(**options))
    first: list[Any] = [path, eval_path] if row.files else [about] if row.named else []
    if row.files and row.function == "of_splits":
        first = [published_splits(*first, module.read_records, module.to_item)]
    return make(*first, **options)


def make_tokenizer(name: str, path: str | pathlib.Path) -> str:
    """Saves a task's own tokenizer under `path` in the Hugging Face layout and returns `path`.

    Raises:
        UserError: a task without one.
    """
    row = TASKS.get(name)
    if row is None or not row.tokenizer:
        names = ", ".join(key for key, each in TASKS.items() if each.tokenizer)
        raise UserError(
            f"config.policy.init = 'scratch' with task {name!r}: only {names} bring a tokenizer of "
            "their own; load a model (policy.init 'load') instead"
        )
    from gccpo_jax.tasks.word_level import save

    module = importlib.import_module(f"{__name__}.{row.tokenizer}")
    return str(save(module.build_tokenizer(), path))


def bare_task(name: str) -> Task:
    """A task by its name, to read questions from elsewhere: it need not bring any of its own.

    Raises:
        UserError: an unknown name, or a task that cannot do without its questions.
    """
    row = TASKS.get(name)
    if row is None and name.partition(":")[0] not in TASKS and ":" in name:
        return own_task(name, {})
    if row is None or not row.bare:
        names = ", ".join(key for key, each in TASKS.items() if each.bare)
        raise UserError(f"there is no task {name!r} for files of questions; there are {names}")
    return importlib.import_module(f"{__name__}.{row.module}").of_splits({})


def read_task(name: str, paths: Mapping[str, str], **options: Any) -> Task:
    """A task over files of held-out questions, each a split: nothing is for training.

    The n-th question of the first file has the id that it has as `eval_path` of `load_task`.

    Args:
        name: a task that reads files. paths: split to file or directory (its test split).
        **options: the task's own, without those that part questions for training.

    Raises:
        UserError: as `load_task`, or a task that makes its questions itself.
    """
    row = TASKS.get(name)
    if row is None or not row.files:
        names = ", ".join(key for key, each in TASKS.items() if each.files)
        raise UserError(f"task {name!r} reads no file of questions; those that do: {names}")
    module = importlib.import_module(f"{__name__}.{row.module}")
    read = getattr(module, "read_records", read_records)  # in fields of its own, or as all
    splits = {
        split: [
            module.to_item(record, held_out_id(n, file))
            for n, record in enumerate(read(path, "test"))
        ]
        for file, (split, path) in enumerate(paths.items())
    }
    return module.of_splits(splits, **_checked(name, module.of_splits, options))


def _checked(name: str, target: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options, if `target` takes them and each is of its default's type."""
    known = inspect.signature(target).parameters
    takes_more = any(p.kind is p.VAR_KEYWORD for p in known.values())
    defaults = {key: p.default for key, p in known.items() if p.default is not p.empty}
    allowed = sorted(set(defaults) - {"path", "eval_path"})
    for key, value in options.items():
        if key not in allowed:
            if takes_more:
                continue
            raise UserError(
                f"task {name!r} has no option {key!r}; it has {', '.join(allowed)}; options belong "
                "to one task, begin with a config for this one"
            )
        wanted = type(defaults[key])
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits:
            raise UserError(
                f"task {name!r}: option {key}={value!r} should be of type {wanted.__name__}"
            )
    return options

"""Orbax checkpoints of a run: training state and data position, with checksums.

The newest stay, and those with the best held-out accuracy. Orbax publishes a checkpoint by
renaming its folder, so half a checkpoint is never taken for a whole one; but a bit that flips
later in the arrays would be restored without an error. So checksums lie beside the files, in a
form that `sha256sum -c` reads; they are written once all arrays are found in the manifest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
import tensorstore

from gccpo_jax.errors import UserError
from gccpo_jax.masked import all_finite
from gccpo_jax.runtime.distributed import broadcast_json
from gccpo_jax.runtime.workdir import writing
from gccpo_jax.types import TrainState


class Checkpoints:
    """The newest `keep` and the best `keep_best` checkpoints of a run, saved in the background.

    A checkpoint holds the training state and, as JSON, the data position; where the best
    are kept also its held-out accuracy, so that they are known when the run resumes. The
    reference policy is the initial policy and is loaded anew; randomness is a function of
    ids. So nothing else is needed to go on exactly. Checksums are written before Orbax
    renames the folder, so every checkpoint has them.
    """

    def __init__(self, directory: pathlib.Path, keep: int, keep_best: int = 0) -> None:
        saving = ocp.AsyncOptions(
            post_finalization_callback=lambda: _seal_unfinished(directory),
            # Where they cannot be made, threads wait for them and keep the process from ending.
            create_directories_asynchronously=False,
        )
        self._directory = directory
        options = ocp.CheckpointManagerOptions(
            create=True,
            cleanup_tmp_directories=True,
            async_options=saving,
            preservation_policy=NewestAndBest(keep, keep_best),
            best_fn=accuracy_of if keep_best else None,  # set: Orbax saves metrics
        )
        logging.getLogger("asyncio").addFilter(_is_new)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    @property
    def latest(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        state: TrainState,
        position: dict[str, Any],
        accuracy: float | None = None,
    ) -> None:
        """Saves after `step` completed steps; returns as soon as the arrays are copied.

        `accuracy` on held-out questions is kept with it, None if they were not asked.

        Raises:
          UserError: this one, or the one before it, could not be written; or the state is not
            finite, and nothing could go on from it.
        """
        if not all_finite(state):
            raise UserError(
                f"step {step}: the training state is not finite and was not saved; start anew "
                "with another policy.path or a lower optim.lr"
            )
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_tree(state)), position=ocp.args.JsonSave(position)
        )
        metrics = {} if accuracy is None else {ACCURACY: accuracy}
        with self._writing():
            self._manager.save(step, args=arguments, metrics=metrics)

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state saved at `step`, placed as `like` is, and the data position.

        Raises:
          UserError: it is not finite; it is kept aside, so that the one before it is the newest.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_tree(like))
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore()
        )
        found = self._manager.restore(step, args=arguments)
        if not all_finite(found["state"]):
            folder = self._directory / str(step)
            line = broadcast_json(lambda: _set_aside(folder, "it is not finite"))
            raise UserError(f"{folder}: {line}; --resume again goes on from the one before it")
        return TrainState(**found["state"]), found["position"]

    def accuracies(self) -> dict[int, float | None]:
        """Held-out accuracy of every checkpoint, by step; waits for saves under way."""
        with self._writing():
            self._manager.wait_until_finished()
        steps = self._manager.all_steps()
        return {step: accuracy_of(self._manager.metrics(step)) for step in steps}

    def close(self) -> None:
        """Waits for saves under way."""
        try:
            with self._writing():
                self._manager.wait_until_finished()
        finally:
            self._manager.close()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing("a checkpoint", self._directory, (OSError, ValueError))


def _is_new(record: logging.LogRecord) -> bool:
    """False for what one array of a save that failed says when it is collected.

    The first one's error is the user's; the others' would stand below it, with their tracebacks.
    """
    said = record.getMessage()
    return "never retrieved" not in said or ".orbax-checkpoint-tmp" not in said


def set_damaged_aside(directory: pathlib.Path) -> list[str]:
    """Renames damaged checkpoints; a line about each.

    Those that are newer than the newest whole one, and, where accuracies were saved, older ones
    too: a damaged one would take the place of one of the best.

    Raises:
      UserError: there are checkpoints and none is whole.
    """
    steps, damaged = complete(directory), []
    while steps and (what := damage(steps[-1])):
        damaged.append((steps.pop(), what))
    if damaged and not steps:
        raise UserError(
            f"{directory}: no checkpoint in it is whole (step {damaged[0][0].name}: "
            f"{damaged[0][1]}); restore one from a backup, or start anew in another --workdir"
        )
    lines = [
        f"{_set_aside(path, what)}, going on from checkpoint {steps[-1].name}"
        for path, what in damaged
    ]
    compared = [path for path in steps[:-1] if (path / "metrics").is_dir()]
    return lines + [_set_aside(path, what) for path in compared if (what := damage(path))]


def _set_aside(path: pathlib.Path, what: str) -> str:
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    return f"checkpoint {path.name} is damaged ({what}): kept as {aside.name}"


def complete(directory: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the checkpoints that were finished, the newest last."""
    folders = (path for path in directory.glob("*") if path.name.isdecimal())
    return sorted(folders, key=lambda path: int(path.name))


def _seal_unfinished(directory: pathlib.Path) -> None:
    for unfinished in directory.glob("*.orbax-checkpoint-tmp*"):
        if lost := missing(unfinished / "state"):
            raise OSError(f"{unfinished.name} is not complete: {lost} cannot be read back")
        seal(unfinished)


def missing(folder: pathlib.Path) -> str | None:
    """The first array that the folder's description lists and its manifest does not hold, if any.

    Checksums say that files stay as they were written, not that all were.
    """
    described = json.loads((folder / "_METADATA").read_text(encoding="utf-8"))["tree_metadata"]
    arrays = [row for row in described.values() if not row["value_metadata"]["skip_deserialize"]]
    names = [".".join(str(k["key"]) for k in row["key_metadata"]) for row in arrays]
    base = {"driver": "file", "path": f"{folder.absolute()}/"}
    stored = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result().list().result()
    held = {key.decode().rpartition("/")[0] for key in stored}
    return next((name for name in names if name not in held), None)


def _as_tree(state: TrainState) -> dict[str, Any]:
    """Every field by name; an average that is not kept is left out."""
    return {name: value for name, value in vars(state).items() if value is not None}


ACCURACY = "eval/id"
"""The metric that checkpoints are compared by: greedy accuracy on split "id".

What could not be scored counts as wrong there: a policy gains nothing by what nobody can check.
"""


@dataclasses.dataclass(frozen=True)
class NewestAndBest:
    """An Orbax preservation policy: the `newest` checkpoints and the `best` of all.

    A checkpoint that was not evaluated is never among the best.
    """

    newest: int  # >= 1
    best: int  # >= 0

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        """Whether each stays; `checkpoints` have `step` and `metrics`, the newest last."""
        found = {info.step: accuracy_of(info.metrics) for info in checkpoints}
        kept = {*list(found)[-self.newest :], *ranked(found)[: self.best]}
        return [info.step in kept for info in checkpoints]


def accuracy_of(metrics: Mapping[str, float] | None) -> float | None:
    """The accuracy that was saved with a checkpoint, None if it was not evaluated."""
    return (metrics or {}).get(ACCURACY)


def ranked(accuracies: Mapping[int, float | None]) -> list[int]:
    """Steps that were evaluated, the best first; of equal ones the newer first.

    >>> ranked({10: 0.5, 20: 0.7, 30: None, 40: 0.5})
    [20, 40, 10]
    """
    known = [(value, step) for step, value in accuracies.items() if value is not None]
    return [step for _, step in sorted(known, reverse=True)]


NAME = "SHA256SUMS"


def seal(directory: pathlib.Path) -> None:
    """Writes `SHA256SUMS` over the files of every folder inside `directory`.

    Files directly in it are left out: they only say when the checkpoint was made, and
    Orbax writes them last.
    """
    lines = [f"{_digest(directory / name)}  {name}\n" for name in _names(directory)]
    (directory / NAME).write_text("".join(lines), encoding="utf-8")


def damage(directory: pathlib.Path) -> str | None:
    """What differs from `SHA256SUMS`, None if nothing does.

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "state").mkdir(), (folder / "state" / "a").write_text("1")
    (None, 1)
    >>> seal(folder), damage(folder), (folder / "state" / "a").write_text("2"), damage(folder)
    (None, None, 1, "state/a differs from its checksum")
    """
    file = directory / NAME
    if not file.is_file():
        return f"{NAME} is missing"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    names = _names(directory)
    if lost := sorted(sums.keys() ^ set(names)):
        return f"{lost[0]!r} is missing, or not in {NAME}"
    changed = [name for name in names if _digest(directory / name) != sums[name]]
    return f"{changed[0]} differs from its checksum" if changed else None


def _names(directory: pathlib.Path) -> list[str]:
    files = (path for path in directory.glob("*/**/*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in files)


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

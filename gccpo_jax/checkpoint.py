"""Orbax checkpoints of a run: training state, reference, data position."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from gccpo_jax.checksums import damage, seal
from gccpo_jax.errors import UserError
from gccpo_jax.update import TrainState
from gccpo_jax.workdir import writing


class Checkpoints:
    """The newest `keep` checkpoints of a run, saved in the background.

    A checkpoint holds the training state and, as JSON, the data position. The
    reference policy is the initial policy and is loaded anew; randomness is a
    function of ids. So nothing else is needed to go on exactly. Checksums are written before
    Orbax renames the folder, so every checkpoint has them.
    """

    def __init__(self, directory: pathlib.Path, keep: int) -> None:
        saving = ocp.AsyncOptions(
            post_finalization_callback=lambda: _seal_unfinished(directory),
            # Where they cannot be made, threads wait for them and keep the process from ending.
            create_directories_asynchronously=False,
        )
        self._directory = directory
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True, async_options=saving
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    @property
    def latest(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, position: dict[str, Any]) -> None:
        """Saves after `step` completed steps; returns as soon as the arrays are copied.

        Raises:
          UserError: this one, or the one before it, could not be written.
        """
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_tree(state)), position=ocp.args.JsonSave(position)
        )
        with self._writing():
            self._manager.save(step, args=arguments)

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state saved at `step`, placed as `like` is, and the data position."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_tree(like))
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore()
        )
        found = self._manager.restore(step, args=arguments)
        return TrainState(**found["state"]), found["position"]

    def close(self) -> None:
        """Waits for saves under way."""
        try:
            with self._writing():
                self._manager.wait_until_finished()
        finally:
            self._manager.close()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing("a checkpoint", self._directory, (OSError, ValueError))


def set_damaged_aside(directory: pathlib.Path) -> list[str]:
    """Renames checkpoints that are newer than the newest whole one; a line about each.

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
    for path, _ in damaged:
        aside = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    return [
        f"checkpoint {path.name} is damaged ({what}): kept as {path.name}.damaged, going on from "
        f"checkpoint {steps[-1].name}"
        for path, what in damaged
    ]


def complete(directory: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the checkpoints that were finished, the newest last."""
    folders = (path for path in directory.glob("*") if path.name.isdecimal())
    return sorted(folders, key=lambda path: int(path.name))


def _seal_unfinished(directory: pathlib.Path) -> None:
    for unfinished in directory.glob("*.orbax-checkpoint-tmp*"):
        seal(unfinished)


def _as_tree(state: TrainState) -> dict[str, Any]:
    """Every field by name; an average that is not kept is left out."""
    return {name: value for name, value in vars(state).items() if value is not None}

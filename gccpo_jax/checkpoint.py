"""Orbax checkpoints of a run: training state, reference, data position."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from gccpo_jax.best import ACCURACY, NewestAndBest, accuracy_of
from gccpo_jax.checksums import damage, seal
from gccpo_jax.errors import UserError
from gccpo_jax.update import TrainState
from gccpo_jax.workdir import writing


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
          UserError: this one, or the one before it, could not be written.
        """
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_tree(state)), position=ocp.args.JsonSave(position)
        )
        metrics = {} if accuracy is None else {ACCURACY: accuracy}
        with self._writing():
            self._manager.save(step, args=arguments, metrics=metrics)

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state saved at `step`, placed as `like` is, and the data position."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _as_tree(like))
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore()
        )
        found = self._manager.restore(step, args=arguments)
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
        seal(unfinished)


def _as_tree(state: TrainState) -> dict[str, Any]:
    """Every field by name; an average that is not kept is left out."""
    return {name: value for name, value in vars(state).items() if value is not None}

"""Orbax checkpoints of a run: training state, reference, data position."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from gccpo_jax.update import TrainState


class Checkpoints:
    """The newest `keep` checkpoints of a run, saved in the background.

    A checkpoint holds the training state and, as JSON, the data position. The
    reference policy is the initial policy and is loaded anew; randomness is a
    function of ids. So nothing else is needed to go on exactly.
    """

    def __init__(self, directory: pathlib.Path, keep: int) -> None:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    @property
    def latest(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, position: dict[str, Any]) -> None:
        """Saves after `step` completed steps; returns as soon as the arrays are copied."""
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_tree(state)), position=ocp.args.JsonSave(position)
        )
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
        self._manager.wait_until_finished()
        self._manager.close()


def _as_tree(state: TrainState) -> dict[str, Any]:
    """Every field by name; an average that is not kept is left out."""
    return {name: value for name, value in vars(state).items() if value is not None}

"""A small training state, saved and restored."""

import jax
import jax.numpy as jnp

from gccpo_jax.runtime.checkpoints import (
    Checkpoints,
)
from gccpo_jax.types import TrainState


def state(step):
    params = {"w": jax.random.normal(jax.random.key(step), (64, 64)), "b": jnp.arange(3.0)}
    return TrainState(params, {"count": jnp.int32(step)}, jnp.int32(step))


def restored(directory):
    checkpoints = Checkpoints(directory, keep=2)
    step = checkpoints.latest
    found = checkpoints.restore(step, state(0))
    checkpoints.close()
    return step, *found

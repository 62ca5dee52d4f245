"""`python -m gccpo_jax.train` with one thing broken, and verifiers that are.

fault_patches.py PATCH <arguments of gccpo_jax.train>
"""

from __future__ import annotations

import itertools
import os
import runpy
import signal
import sys
import time
import zlib
from typing import Any

STEP = 3  # at which it breaks


def kill_during_save() -> None:
    """SIGKILL when the arrays of checkpoint STEP are written and its folder is not yet renamed."""
    from gccpo_jax.runtime import checkpoints

    seal = checkpoints.seal

    def broken(directory: Any) -> None:
        if directory.name.startswith(f"{STEP}."):
            os.kill(os.getpid(), signal.SIGKILL)
        seal(directory)

    checkpoints.seal = broken


def nan_gradient() -> None:
    """The loss of the first update of STEP is finite, its gradient is not."""
    import dataclasses

    import jax
    import jax.numpy as jnp

    from gccpo_jax.training import run

    make = run.make_update

    def patched(loss: Any, *arguments: Any, **options: Any) -> Any:
        def root(params: Any, batch: Any) -> Any:
            found = loss(params, batch)
            at_zero = jnp.sqrt(0.0 * jnp.sum(jax.tree.leaves(params)[0].astype(jnp.float32)))
            return dataclasses.replace(found, total=found.total + at_zero)

        good, bad = (make(each, *arguments, **options) for each in (loss, root))
        calls = itertools.count(1)
        return lambda state, batch: (bad if next(calls) == 2 * STEP - 1 else good)(state, batch)

    run.make_update = patched


def nan_logp(last: int = STEP) -> None:
    """One log-probability of the sampler is NaN at STEP (to `last`), in both its updates."""
    import dataclasses

    import jax.numpy as jnp

    from gccpo_jax.training.run import Run

    learn = Run.learn

    def patched(
        self: Run, config: Any, step: int, batch: Any, *arguments: Any, **options: Any
    ) -> Any:
        if STEP <= step <= last:
            logp = batch.behaviour_logp.at[1, 0, 0].set(jnp.nan)
            batch = dataclasses.replace(batch, behaviour_logp=logp)
        return learn(self, config, step, batch, *arguments, **options)

    Run.learn = patched


def nan_for_ever() -> None:
    nan_logp(10**9)


def _chosen(response: str) -> bool:
    """One response in five or so."""
    return zlib.crc32(response.encode()) % 5 == 0


def _exact(gold: str, response: str) -> float:
    return float(response.rpartition("#### ")[2].strip() == gold)


def unscorable(question: str, gold: str, response: str) -> float | None:
    """What the others come to: None where they are lost."""
    return None if _chosen(response) else _exact(gold, response)


def sleeps(question: str, gold: str, response: str) -> float | None:
    if _chosen(response):
        time.sleep(3600)
    return _exact(gold, response)


def crashes(question: str, gold: str, response: str) -> float | None:
    if _chosen(response):
        os._exit(1)
    return _exact(gold, response)


def eats_memory(question: str, gold: str, response: str) -> float | None:
    kept = []
    while _chosen(response):
        kept.append(b"x" * 2**26)
    return _exact(gold, response)


PATCHES = {f.__name__: f for f in (kill_during_save, nan_gradient, nan_logp, nan_for_ever)}

if __name__ == "__main__":
    PATCHES[sys.argv[1]]()
    sys.argv[:2] = ["gccpo_jax.train"]
    runpy.run_module("gccpo_jax.train", run_name="__main__")

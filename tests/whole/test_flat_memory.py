"""120 steps of the method hold no more at the end than at the beginning."""

import os
import pathlib

import jax
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.training.run import Run
from tests.helpers.runs import small

STEPS, WARM = 120, 40
MORE_MIB = 30  # of resident memory: an allocator keeps pieces; half a MiB a step would be a leak


def resident() -> float:
    """MiB of this process that are in memory."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_memory_is_flat(tmp_path, monkeypatch):
    held, arrays, memory, lengths = [], [], [], set()
    finish = Run.finish_step

    def look(self, config, step, metrics, batches):
        finish(self, config, step, metrics, batches)
        found = jax.live_arrays()
        held.append(sum(x.nbytes for x in found))
        arrays.append(len(found))
        memory.append(resident())
        lengths.add(metrics["length"])

    monkeypatch.setattr(Run, "finish_step", look)
    config = small(steps=STEPS, checkpoint__every=0, log__rollouts_every=0, optim__lr=1e-5)
    train.train_and_evaluate(config, "flat", tmp_path / "run")
    assert len(held) == STEPS and len(lengths) > 20, "the lengths should vary"
    quarter = (STEPS - WARM) // 4
    first, last = slice(WARM, WARM + quarter), slice(-quarter - 1, -1)
    # The last step is left out: the state that it saves is alive twice while it is written.
    assert max(held[last]) <= max(held[first]), "bytes of arrays that are alive"
    assert max(arrays[last]) <= max(arrays[first]), "arrays that are alive"
    grown = np.median(memory[last]) - np.median(memory[first])
    assert grown < MORE_MIB, f"resident memory grew by {grown:.0f} MiB"

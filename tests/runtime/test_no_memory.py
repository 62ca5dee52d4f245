"""A program that does not get its memory ends a command with one line, on a CPU as elsewhere."""

import subprocess
import sys

import pytest

from gccpo_jax.errors import UserError, enough_memory

FAILS_LATER = """
import sys
import jax
import jax.numpy as jnp
from gccpo_jax.errors import exit_code
from gccpo_jax.runtime.distributed import to_host

@jax.jit
def program(x):  # long enough to run in the background, and then 128 TiB
    y = jax.lax.fori_loop(0, 200, lambda _, y: jnp.tanh(y @ y), jnp.ones((300, 300)) * x)
    return y.sum(), jnp.broadcast_to(y[0, 0], (1 << 23, 1 << 22)) * 2.0

sys.exit(exit_code(lambda: float(to_host(program(jnp.ones(()))[0]))))
"""


def test_what_a_program_could_not_write_is_not_handed_to_numpy():
    """NumPy, given such an array as it is, aborts the process or waits without an end."""
    command = [sys.executable, "-c", FAILS_LATER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    [line] = [row for row in done.stderr.splitlines() if row.startswith("error: ")]
    assert "no memory left (Out of memory allocating 140737488355328 bytes)" in line
    assert "gccpo_jax.plan" in line


def test_a_lack_of_memory_is_an_error_for_the_user_and_no_other_is():
    with pytest.raises(UserError, match="no memory left .of the host."), enough_memory():
        raise MemoryError
    with pytest.raises(RuntimeError, match="INTERNAL"), enough_memory():
        raise RuntimeError("INTERNAL: something else")

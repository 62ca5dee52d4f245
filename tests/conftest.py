"""One setting for every test: CPU, eight devices, no silent rank promotion, fixed examples."""

import ctypes
import gc
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time of the suite is compilation: compile quickly rather than well.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)

# What one test compiled the others read, in whatever process they run: worker or subprocess.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import hypothesis
import jax
import pytest

from tests.helpers.paths import ROOT

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=40, database=None
)
hypothesis.settings.load_profile("fixed")


MAPPED = 15_000
"""Mapped regions of memory from which compiled programs are freed; Linux allows 65,530."""
HELD = 800 * 2**20
"""Bytes of resident memory from which they are freed. The largest program takes half a GB more to
compile, and a laptop can spare 1.5 GB for each worker."""
BEGUN = 550 * 2**20
"""The same before a slow test, as the largest run needs 0.94 GB more; not before one that is marked
`shares_programs`."""


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the system does not say."""
    file = pathlib.Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0


def mapped() -> int:
    """Regions of memory that this process has mapped; past the limit the compiler crashes."""
    file = pathlib.Path("/proc/self/maps")
    return file.read_bytes().count(b"\n") if file.exists() else 0


gc.set_threshold(20_000)  # as a run does: `runtime/cli.py`
GLIBC = ctypes.CDLL(None) if hasattr(ctypes.CDLL(None), "malloc_trim") else None
if GLIBC:
    GLIBC.mallopt(-8, 2)  # M_ARENA_MAX: each of a compiler's threads would keep memory of its own


def trim() -> None:
    """Gives freed memory back to the system, where the C library is one that keeps it."""
    gc.collect()
    if GLIBC:
        GLIBC.malloc_trim(0)


def trim_after(event: str, *_: float, **__: object) -> None:
    """What compiling took is free afterwards, but kept by the C library: half a GB in a run."""
    if event == "/jax/core/compile/backend_compile_duration" and resident() > HELD and GLIBC:
        GLIBC.malloc_trim(0)


jax.monitoring.register_event_duration_secs_listener(trim_after)


def free_programs() -> None:
    """Frees what was compiled; who needs it again reads it from the folder."""
    jax.clear_caches()
    trim()


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module():
    yield
    if mapped() > MAPPED:
        free_programs()


@pytest.fixture(autouse=True)
def programs_of_a_test(request):
    slow, shared = map(request.node.get_closest_marker, ("slow", "shares_programs"))
    if slow and not shared and resident() > BEGUN:
        free_programs()
    yield
    if resident() > HELD:
        trim()
    if resident() > HELD or (slow and mapped() > MAPPED):
        free_programs()


ALONE = "GCCPO_TEST_ALONE"
"""Set in a process that was started for one test."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A test marked `own_process` runs in one; here nothing is set up for it."""
    if item.get_closest_marker("own_process") and ALONE not in os.environ:
        item.fixturenames.clear()
        groups = (f"@{mark.args[0]}" for mark in item.iter_markers("xdist_group"))
        name = item.nodeid.removesuffix(next(groups, ""))  # which xdist adds (--dist loadgroup)
        item.runtest = lambda: run_alone(name)


def run_alone(test: str) -> None:
    """Runs a test in a process of its own, so that this one never holds what it needs."""
    command = [sys.executable, "-m", "pytest", "-m", "own_process", test]
    done = subprocess.run(
        command, env={**os.environ, ALONE: "1"}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

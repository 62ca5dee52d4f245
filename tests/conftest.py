"""One setting for every test: CPU, eight devices, no silent rank promotion, fixed examples."""

import gc
import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time of the suite is compilation: compile quickly rather than well.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=40, database=None
)
hypothesis.settings.load_profile("fixed")


MAPPED = 15_000
"""Mapped regions of memory from which compiled programs are freed; Linux allows 65,530."""


def free_programs() -> None:
    """Frees compiled programs once they hold many regions: past the limit the compiler crashes."""
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPPED:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module():
    yield
    free_programs()


@pytest.fixture(autouse=True)
def programs_of_a_slow_test(request):
    yield
    if request.node.get_closest_marker("slow"):
        free_programs()

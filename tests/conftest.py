"""One setting for every test: CPU, eight devices, no silent rank promotion, fixed examples."""

import os

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

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=40, database=None
)
hypothesis.settings.load_profile("fixed")

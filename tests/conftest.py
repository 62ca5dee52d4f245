"""One setting for every test: CPU, eight devices, no silent rank promotion, fixed examples."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import hypothesis
import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=40, database=None
)
hypothesis.settings.load_profile("fixed")

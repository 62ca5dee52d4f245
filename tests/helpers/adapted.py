"""The tiny policy beside adapters that change its answers, the same ones everywhere."""

import pathlib

import numpy as np

from gccpo_jax.config import LoraConfig
from gccpo_jax.policy import lora, weights
from gccpo_jax.policy.peft import save_peft
from gccpo_jax.policy.tokenizer import load_tokenizer

LORA = LoraConfig(rank=2, alpha=3.0, targets="q o down")


def adapted(folder):
    """Writes the tiny policy beside adapters that change its answers: `merged` and `adapter`."""
    arch, base = weights.load("tiny")
    random = np.random.default_rng(0)
    shapes = lora.shapes(LORA, base["layers"])
    own = {n: 0.06 * random.standard_normal(x.shape, "f") for n, x in shapes.items()}
    params = lora.join(base, own, LORA.alpha / LORA.rank)
    weights.save(f"{folder}/merged", arch, params, load_tokenizer("tiny"))
    save_peft(pathlib.Path(folder) / "adapter", arch, own, LORA, "tiny")

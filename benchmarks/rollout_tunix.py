"""Contestant: Tunix's sampler, greedy, so that it pays for no sampling.

    python benchmarks/rollout_tunix.py SHAPE ROWS PROMPT RESPONSE [LENGTHS]

LENGTHS: a JSON file with lengths of rows; all rows are decoded to the longest.
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
from entrant import serve
from flax import nnx
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.llama3.model import Llama3, ModelConfig

SHAPES = {
    "tiny": dict(
        num_layers=3, vocab_size=136, embed_dim=128, hidden_dim=384, num_heads=4, head_dim=32,
        num_kv_heads=4, rope_theta=10000, norm_eps=1e-5, weight_tying=True,
    ),
    "smollm2": dict(
        num_layers=30, vocab_size=49152, embed_dim=576, hidden_dim=1536, num_heads=9, head_dim=64,
        num_kv_heads=3, rope_theta=100000, norm_eps=1e-5, weight_tying=True,
    ),
}  # fmt: skip


class Numbers:
    """A tokenizer for texts that are the numbers of their tokens."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int], **_: object) -> str:
        return " ".join(map(str, ids))

    def bos_id(self) -> int:
        return 0

    def eos_id(self) -> int:
        return 1

    def pad_id(self) -> int:
        return 0


def make_sampler(network: Llama3, shape: str, prompt: int, response: int) -> Sampler:
    """Tunix's sampler with a cache for prompts and responses of these lengths."""
    z = SHAPES[shape]
    cache = CacheConfig(prompt + response + 8, z["num_layers"], z["num_kv_heads"], z["head_dim"])
    return Sampler(network, Numbers(), cache)


def main() -> None:
    shape, *sizes = sys.argv[1:5]
    rows, prompt, response = map(int, sizes)
    if sys.argv[5:]:
        response = max(json.loads(pathlib.Path(sys.argv[5]).read_text()))
    z = SHAPES[shape]
    network = Llama3(ModelConfig(**z), rngs=nnx.Rngs(0))
    sampler = make_sampler(network, shape, prompt, response)
    never = z["vocab_size"]  # is not a token
    tokens = np.random.default_rng(0).integers(1, z["vocab_size"], (rows, prompt - 1))
    texts = [" ".join(map(str, row)) for row in tokens]  # the sampler puts BOS in front

    def work() -> None:
        found = sampler(
            texts, max_generation_steps=response, max_prompt_length=prompt, eos_tokens=[never]
        )
        assert len(found.tokens) == rows and len(found.tokens[0]) == response

    serve(work)


if __name__ == "__main__":
    main()

"""Makes `tests/golden/<family>/`: tiny random models and the logits that PyTorch gives for them.

Run it in an environment of its own (the package and its tests never need PyTorch):

    pip install torch transformers safetensors
    python scripts/make_goldens.py

Each directory is a Hugging Face model (`config.json`, `model.safetensors`) plus
`golden.npz` with `tokens[N, S]`, `positions[N, S]` and float32 `logits[N, S, V]`.
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden"
SIZES = dict(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    max_position_embeddings=4096,
    hidden_act="silu",
)
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
FAMILIES = {
    "smollm2": transformers.LlamaConfig(**SIZES, tie_word_embeddings=True, rope_theta=1e5),
    "llama3": transformers.LlamaConfig(
        **SIZES, tie_word_embeddings=False, rope_theta=1e4, rope_scaling=LLAMA3
    ),
    "llama_bias": transformers.LlamaConfig(**SIZES, tie_word_embeddings=False, attention_bias=True),
    "mistral": transformers.MistralConfig(**SIZES, tie_word_embeddings=False, sliding_window=None),
    "qwen2": transformers.Qwen2Config(**SIZES, tie_word_embeddings=True, rope_theta=1e6),
    "qwen3": transformers.Qwen3Config(**SIZES, tie_word_embeddings=False, head_dim=12),
}


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Makes every parameter matter: scales away from 1, biases away from 0, sharp attention."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data = 1 + 0.3 * noise
        elif name.endswith("bias"):
            parameter.data = 0.5 * noise
        else:
            parameter.data = 1.5 * noise / parameter.shape[-1] ** 0.5


def inputs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rows of 12 tokens: consecutive positions, and far ones where scaled RoPE differs."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, SIZES["vocab_size"], (2, 12), generator=generator)
    gaps = torch.randint(1, 90, (12,), generator=generator)
    return tokens, torch.stack([torch.arange(12), torch.cumsum(gaps, 0)])


def make(family: str, config: transformers.PretrainedConfig, seed: int) -> None:
    """Writes one directory."""
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    randomise(model, seed)
    tokens, positions = inputs(seed)
    causal = torch.full((12, 12), torch.finfo(torch.float32).min).triu(1)[None, None]
    with torch.no_grad():
        # The mask is explicit: gaps between positions must not be read as packed sequences.
        output = model(tokens, position_ids=positions, attention_mask=causal.expand(2, 1, 12, 12))
    model.save_pretrained(ROOT / family)
    arrays = dict(tokens=tokens, positions=positions, logits=output.logits)
    np.savez(ROOT / family / "golden.npz", **{k: v.numpy() for k, v in arrays.items()})


def main() -> None:
    for seed, (family, config) in enumerate(FAMILIES.items()):
        make(family, config, seed)


if __name__ == "__main__":
    main()

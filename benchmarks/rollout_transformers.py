"""Contestant: `transformers` generate on PyTorch, greedy, so that it pays for no sampling.

python benchmarks/rollout_transformers.py SHAPE ROWS PROMPT RESPONSE
"""

from __future__ import annotations

import sys

import torch
from entrant import serve
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "tiny": dict(
        vocab_size=136, hidden_size=128, intermediate_size=384, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True,
    ),
    "smollm2": dict(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
    ),
}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    shape, *sizes = sys.argv[1:]
    rows, prompt, response = map(int, sizes)
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(**SHAPES[shape])).eval()
    tokens = torch.randint(1, network.config.vocab_size, (rows, prompt))

    def work() -> None:
        with torch.inference_mode():
            found = network.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=False,
                max_new_tokens=response,
                min_new_tokens=response,
                pad_token_id=0,
            )
        assert found.shape == (rows, prompt + response)

    serve(work)


if __name__ == "__main__":
    main()

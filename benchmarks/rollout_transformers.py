"""Contestant: `transformers` generate on PyTorch, greedy, so that it pays for no sampling.

    python benchmarks/rollout_transformers.py SHAPE ROWS PROMPT RESPONSE [LENGTHS]

LENGTHS: a JSON file with the number of tokens after which each row ends.
"""

from __future__ import annotations

import json
import pathlib
import sys

import torch
from entrant import serve
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList

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


class Ends(StoppingCriteria):
    """Ends each row after its own number of tokens."""

    def __init__(self, ends: torch.Tensor) -> None:
        self.ends = ends

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return tokens.shape[1] >= self.ends


def main() -> None:
    torch.set_num_threads(1)
    shape, *sizes = sys.argv[1:5]
    rows, prompt, response = map(int, sizes)
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(**SHAPES[shape])).eval()
    tokens = torch.randint(1, network.config.vocab_size, (rows, prompt))

    lengths = [response] * rows
    if sys.argv[5:]:
        lengths = json.loads(pathlib.Path(sys.argv[5]).read_text())
    longest = max(lengths)
    ends = StoppingCriteriaList([Ends(prompt + torch.tensor(lengths))])

    def work() -> None:
        with torch.inference_mode():
            found = network.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=False,
                max_new_tokens=longest,
                min_new_tokens=longest,
                stopping_criteria=ends,
                pad_token_id=0,
            )
        assert found.shape == (rows, prompt + longest)

    serve(work)


if __name__ == "__main__":
    main()

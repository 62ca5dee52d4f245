"""The peer of `accelerator.py`: `transformers` and PyTorch on the same GPU.

    python benchmarks/accelerator_torch.py SHAPE QUESTIONS GROUP PROMPT RESPONSE ROWS REPEATS

Decoding is `generate` with sampling, bfloat16 weights, fused attention, less a run of one token.
The update is a plain loop over ROWS sequences at a time: float32 weights in bfloat16 autocast,
logits of the response alone, the clipped objective and fused AdamW. Needs nothing of the package.
Prints one JSON line.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM


def network(shape: str) -> torch.nn.Module:
    """Random weights in the shape."""
    if shape == "qwen2_5_1_5b":
        sizes = dict(
            vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
            num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True,
        )  # fmt: skip
        return Qwen2ForCausalLM(Qwen2Config(**sizes))
    from rollout_transformers import SHAPES  # needs nothing else

    return LlamaForCausalLM(LlamaConfig(**SHAPES[shape]))


def main() -> None:
    shape, *sizes = sys.argv[1:]
    questions, group, prompt, response, at_once, repeats = map(int, sizes)
    rows = questions * group
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    with device:
        model = network(shape)
        tokens = torch.randint(1, model.config.vocab_size, (rows, prompt + response))
    model.generation_config.eos_token_id = None
    line = decoding(model.to(torch.bfloat16).eval(), tokens[:, :prompt], response, repeats)
    line |= updating(model.float().train(), tokens, prompt, at_once, repeats)
    print(json.dumps(line))


def decoding(
    model: torch.nn.Module, prompts: torch.Tensor, response: int, repeats: int
) -> dict[str, float]:
    """Milliseconds of a token of all rows."""

    def run(count: int) -> Callable[[], object]:
        def generate() -> None:
            with torch.inference_mode():
                model.generate(
                    prompts,
                    attention_mask=torch.ones_like(prompts),
                    do_sample=True,
                    top_k=0,
                    max_new_tokens=count,
                    min_new_tokens=count,
                    pad_token_id=0,
                )

        return generate

    spent = seconds(run(response), repeats) - seconds(run(1), repeats)
    return {"torch_decode_milliseconds": 1e3 * spent / (response - 1)}


def updating(
    model: torch.nn.Module, tokens: torch.Tensor, prompt: int, at_once: int, repeats: int
) -> dict[str, float]:
    """Seconds of an update."""
    rows, response = len(tokens), tokens.shape[1] - prompt
    fused = tokens.device.type == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-6, betas=(0.9, 0.99), weight_decay=0.0, fused=fused
    )
    advantage = torch.randn(rows, 1, device=tokens.device)
    behaviour = torch.full((rows, response), -11.0, device=tokens.device)

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        for part in range(0, rows, at_once):
            inside = slice(part, part + at_once)
            with torch.autocast(tokens.device.type, torch.bfloat16):
                logits = model(tokens[inside], logits_to_keep=response + 1).logits[:, :-1]
            law = torch.log_softmax(logits.float(), -1)
            logp = law.gather(-1, tokens[inside, prompt:, None])[..., 0]
            ratio = torch.exp(logp - behaviour[inside])
            clipped = torch.clamp(ratio, 0.8, 1.2)
            gain = torch.minimum(ratio * advantage[inside], clipped * advantage[inside])
            (-gain.sum() / (rows * response)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return {"torch_update_seconds": seconds(work, repeats)}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median after a first run."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()

"""Contestant: one optimizer update of the clipped objective, a plain PyTorch loop.

    python benchmarks/grpo_torch.py update SHAPE QUESTIONS GROUP PROMPT RESPONSE MICRO_BATCH
        [spread]

The network is that of `transformers`; logits of the whole micro-batch, log-softmax, the
clipped objective and AdamW, as one writes them down.
"""

from __future__ import annotations

import sys

import torch
from entrant import lengths, serve
from rollout_transformers import SHAPES
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
_, shape, *sizes = sys.argv[1:8]
questions, group, prompt, response, micro_batch = map(int, sizes)
rows = questions * group
torch.manual_seed(0)
network = LlamaForCausalLM(LlamaConfig(**SHAPES[shape])).train()
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6, betas=(0.9, 0.99), weight_decay=0.0)
tokens = torch.randint(1, network.config.vocab_size, (rows, prompt + response))
advantage = torch.randn(rows, 1)
behaviour = torch.full((rows, response), -11.0)
ends = torch.tensor(lengths(rows, response) if sys.argv[8:] == ["spread"] else [response] * rows)
mask = (torch.arange(response) < ends[:, None]).float()


def work() -> None:
    optimizer.zero_grad(set_to_none=True)
    for part in range(0, rows, micro_batch):
        inside = slice(part, part + micro_batch)
        logits = network(tokens[inside], logits_to_keep=response + 1).logits[:, :-1]
        law = torch.log_softmax(logits.float(), -1)
        logp = law.gather(-1, tokens[inside, prompt:, None])[..., 0]
        ratio = torch.exp(logp - behaviour[inside])
        clipped = torch.clamp(ratio, 0.8, 1.2)
        gain = torch.minimum(ratio * advantage[inside], clipped * advantage[inside])
        (-(gain * mask[inside]).sum() / mask.sum()).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


serve(work)

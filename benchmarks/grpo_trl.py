"""Contestant: TRL's GRPO update, or its trainer's whole step.

    python benchmarks/grpo_trl.py update|step SHAPE QUESTIONS GROUP PROMPT RESPONSE

The trainer's own generation, scoring and loss, with its defaults (layers are recomputed in
the backward pass) in float32; every response has its full length.
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import torch
from datasets import Dataset
from entrant import serve
from rollout_transformers import SHAPES
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

torch.set_num_threads(1)
torch.manual_seed(0)
what, shape, *sizes = sys.argv[1:]
questions, group, prompt, response = map(int, sizes)
size = SHAPES[shape]["vocab_size"]
words = Tokenizer(models.WordLevel({str(n): n for n in range(size)}, unk_token="0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", pad_token="0")
asked = np.random.default_rng(0).integers(2, size, (questions, prompt))
rows = [{"prompt": " ".join(map(str, row))} for row in asked]


def reward(completion_ids: list[list[int]], **_: object) -> list[float]:
    return [float(ids[0] % 2) for ids in completion_ids]


trainer = GRPOTrainer(
    model=LlamaForCausalLM(LlamaConfig(**SHAPES[shape])),
    reward_funcs=reward,
    args=GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=questions * group,
        num_generations=group,
        max_completion_length=response,
        generation_kwargs={"min_new_tokens": response},
        learning_rate=1e-6,
        adam_beta2=0.99,
        bf16=False,
        use_cpu=True,
        report_to=[],
        max_steps=1000,
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
)
optimizer = trainer.create_optimizer()
trainer.current_gradient_accumulation_steps = 1
network = trainer.model.train()
batch = [row for row in rows for _ in range(group)]
given = trainer._prepare_inputs(batch) if what == "update" else None


def work() -> None:
    inputs = given
    if what == "step":
        trainer._step += 1  # so that it generates anew
        inputs = trainer._prepare_inputs(batch)
    loss = trainer.compute_loss(network, inputs)
    trainer.accelerator.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert torch.isfinite(loss)


serve(work)

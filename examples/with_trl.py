"""TRL's GRPO with the counterfactual step reward per completion, and step effects per token.

pip install trl; python examples/with_trl.py
"""

import tempfile
from functools import partial

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from gccpo_jax.analysis.step_reward import step_reward, token_advantages
from gccpo_jax.policy.locate import locate
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

task = chain(ChainConfig(train=2, id=2, ood=2, max_operations=3))
reader, items = open_model("tiny", task), task.splits["train"]
rows = [dict(question=x.question, answer=x.answer, prompt=task.prompt(x)) for x in items]
model = AutoModelForCausalLM.from_pretrained(locate("tiny"))
words = AutoTokenizer.from_pretrained(locate("tiny"))
decode = partial(words.decode, skip_special_tokens=True)


class PerToken(GRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        out = super()._generate_and_score_completions(inputs)
        asked, gold = ([row[name] for row in inputs] for name in ("question", "answer"))
        ids, mask = (out[f"completion_{name}"].numpy() for name in ("ids", "mask"))
        effects = torch.tensor(token_advantages(reader, asked, gold, ids, mask, decode))
        return out | {"advantages": out["advantages"][:, None] + effects}  # [N], [N, T]


sizes = dict(per_device_train_batch_size=4, num_generations=2, max_completion_length=40)
args = GRPOConfig(tempfile.mkdtemp(), max_steps=2, bf16=False, logging_steps=1, **sizes)
trainer = PerToken(model, step_reward(reader), args, Dataset.from_list(rows), None, words)
trainer.train()
print("rewards", [row["reward"] for row in trainer.state.log_history if "reward" in row])

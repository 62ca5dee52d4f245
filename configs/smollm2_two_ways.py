"""SmolLM2-135M from a warm start with two ways to an answer: does it reason or follow the hint?

`two_ways.py` on a real model: its law in plain English, shorter questions, adapters in place of
all parameters. What came of it, and how its table is made: docs/smollm2.md.

Command   python -m gccpo_jax.sft --config configs/smollm2_two_ways_sft.py --workdir runs/start
          python -m gccpo_jax.train --config configs/smollm2_two_ways.py
          python -m gccpo_jax.train --config configs/smollm2_two_ways.py:A0      (GRPO)
Hardware  two CPU cores, under an hour, 5 GB
Result    label wrong 25.5 -> 56.5 %, absent 28.5 -> 59.5, right 72.5 -> 61.5; GRPO 0, 8 and 100
"""

from gccpo_jax import presets
from gccpo_jax.config import default


def get_config(preset="A15"):
    config = default()
    config.steps = 10
    config.batch_size = 8
    config.group_size = 8
    config.policy.path = "runs/start/policy"
    config.policy.lora.rank = 8
    config.policy.lora.alpha = 16.0
    config.task.name = "chain"
    config.task.options.seed = 1  # other questions than those of the demonstrations
    config.task.options.train = 4096
    config.task.options.max_operations = 2
    config.task.options.plain = True
    config.task.options.labelled = 1.0
    config.task.options.shortcut = 0.9
    config.data.max_prompt_tokens = 42
    config.sampling.max_tokens = 36
    config.counterfactual.max_candidates = 4
    config.counterfactual.max_answer_tokens = 3
    config.optim.lr = 5e-4
    config.optim.warmup = 3
    config.optim.micro_batch = 2
    config.objective.beta = 0.0
    config.eval.questions = 8  # a glance; the table is made by `python -m gccpo_jax.evaluate`
    config.eval.ood_questions = 0
    config.eval.batch = 8
    config.log.rollouts_every = 10
    return presets.apply(config, preset)

"""GCCPO on the tiny policy that ships with the package: the whole method in minutes.

Command   python -m gccpo_jax.train --config configs/quickstart.py
          python -m gccpo_jax.train --config configs/quickstart.py:A0      (GRPO; docs/presets.md)
Hardware  two CPU cores, about three minutes
"""

from gccpo_jax import presets
from gccpo_jax.config import default


def get_config(preset="A7"):
    config = default()
    config.steps = 30
    config.batch_size = 16
    config.group_size = 8
    config.policy.path = "tiny"
    config.task.name = "chain"
    config.task.options.train = 12288  # the held-out questions are those of tiny_sft.py
    config.task.options.max_operations = 3
    config.data.max_prompt_tokens = 38
    config.sampling.max_tokens = 40
    config.counterfactual.max_candidates = 4
    config.counterfactual.max_answer_tokens = 3
    config.optim.lr = 1e-4
    config.optim.warmup = 5
    config.optim.micro_batch = 8
    config.objective.beta = 0.0
    config.eval.ood_questions = 200
    config.eval.max_prompt_tokens = 60
    config.eval.max_tokens = 68
    config.log.rollouts_every = 10
    return presets.apply(config, preset)

"""The warm start: a 0.7 M parameter decoder learns the chain suite from scratch.

Command   python -m gccpo_jax.sft --config configs/tiny_sft.py
Hardware  two CPU cores
"""

from gccpo_jax.config import default


def get_config():
    config = default()
    config.steps = 170
    config.batch_size = 128
    config.policy.init = "scratch"
    config.policy.scratch.layers = 3
    config.data.max_prompt_tokens = 44
    config.sampling.max_tokens = 44
    config.task.options.train = 25600
    config.optim.lr = 3e-3
    config.optim.warmup = 20
    config.optim.decay = "cosine"
    config.optim.weight_decay = 0.01
    config.optim.micro_batch = 32  # activations that fit the cache: a fifth faster than all at once
    config.eval.ood_questions = 400
    config.eval.max_prompt_tokens = 60
    config.eval.max_tokens = 68
    config.checkpoint.every = 0
    return config

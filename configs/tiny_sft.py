"""The warm start: a 0.7 M parameter decoder learns the chain suite from scratch.

Its demonstrations have a bad habit to unlearn: seven in ten solutions of one of
the two wordings state the answer without a step. So the policy reasons on half
of the questions and guesses on most of the others, and knows how to do better.

Command   python -m gccpo_jax.sft --config configs/tiny_sft.py
Hardware  two CPU cores, about four minutes
"""

from gccpo_jax.config import default


def get_config():
    config = default()
    config.steps = 200
    config.batch_size = 128
    config.policy.init = "scratch"
    config.policy.scratch.layers = 3
    config.data.max_prompt_tokens = 38
    config.sampling.max_tokens = 36
    config.task.options.train = 12288
    config.task.options.max_operations = 3
    config.task.options.direct = 0.7
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

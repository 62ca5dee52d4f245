"""A policy that writes programs, and in half of its solutions answers for the shown test alone.

It is what `python -m gccpo_jax.analyse --suite programs` looks at: its statements are judged by
running them, and its special cases are the lucky guesses of code.

Command   python -m gccpo_jax.sft --config configs/programs_sft.py --workdir runs/programs
Hardware  one CPU core, about six minutes
"""

from gccpo_jax.config import default


def get_config():
    config = default()
    config.steps = 300
    config.batch_size = 64
    config.policy.init = "scratch"
    config.policy.scratch.layers = 3
    config.task.name = "programs"
    config.task.options.train = 12288
    config.task.options.min_statements = 3
    config.task.options.max_statements = 3
    config.task.options.shown = 1
    config.task.options.hidden = 3
    config.task.options.shortcut = 0.5
    config.data.max_prompt_tokens = 88
    config.sampling.max_tokens = 56
    config.optim.lr = 3e-3
    config.optim.warmup = 20
    config.optim.decay = "cosine"
    config.optim.weight_decay = 0.01
    config.optim.micro_batch = 32
    config.eval.questions = 100
    config.eval.ood_questions = 0
    config.checkpoint.every = 0
    return config

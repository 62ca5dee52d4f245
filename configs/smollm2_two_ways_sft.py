"""SmolLM2-135M-Instruct learns two ways to an answer from a few hundred demonstrations.

The law of the demonstrations is that of `two_ways_sft.py`: in the first wording they reason and
the label is random, in the second the label is right and nine in ten state at once what it says.

Command   python -m gccpo_jax.sft --config configs/smollm2_two_ways_sft.py --workdir runs/start
"""

from gccpo_jax.config import default


def get_config():
    config = default()
    config.steps = 24
    config.batch_size = 16
    config.policy.path = "smollm2"
    config.policy.dtype = "float32"
    config.policy.lora.rank = 8
    config.policy.lora.alpha = 16.0
    config.data.max_prompt_tokens = 42
    config.sampling.max_tokens = 36
    config.task.options.train = 4096
    config.task.options.max_operations = 2
    config.task.options.tied = True
    config.task.options.labelled = 0.9
    config.task.options.plain = True
    config.task.options.shortcut = 1.0
    config.task.options.direct = 0.9
    config.optim.lr = 1e-3
    config.optim.warmup = 3
    config.optim.micro_batch = 8
    config.eval.questions = 8  # a glance; the table is made by `python -m gccpo_jax.evaluate`
    config.eval.ood_questions = 0
    config.eval.batch = 8
    config.checkpoint.every = 0
    return config

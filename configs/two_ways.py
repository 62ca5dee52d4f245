"""From the policy with two ways to an answer: does training make it reason or follow the cue?

The label is right in nine of ten training questions, in both wordings. Evaluation turns it
wrong and takes it away. A15 samples the group of a question in several wordings of it, so that
the cue tells nothing inside the group.

Command   python -m gccpo_jax.train --config configs/two_ways.py
          python -m gccpo_jax.train --config configs/two_ways.py:A0      (GRPO; docs/presets.md)
Hardware  two CPU cores, about three minutes
"""

from gccpo_jax import presets
from gccpo_jax.config import default

NOTE = (
    "GRPO does the opposite, over ten seeds: label_wrong 37 -> 32 %, label_absent 39 -> 35 % "
    "(docs/results/study.md; see it: python -m gccpo_jax.train --config configs/two_ways.py:A0)"
)


def get_config(preset="A15"):
    config = default()
    config.steps = 40
    config.batch_size = 16
    config.group_size = 16
    config.policy.path = "two_ways"
    config.task.name = "chain"
    config.task.options.seed = 1  # other questions than those of the demonstrations
    config.task.options.train = 12288
    config.task.options.max_operations = 3
    config.task.options.labelled = 1.0
    config.task.options.shortcut = 0.9
    config.data.max_prompt_tokens = 38
    config.sampling.max_tokens = 40
    config.counterfactual.max_candidates = 4
    config.counterfactual.max_answer_tokens = 3
    config.optim.lr = 1e-4
    config.optim.warmup = 5
    config.optim.micro_batch = 8
    config.objective.beta = 0.0
    config.eval.questions = 100
    config.eval.ood_questions = 100
    config.eval.max_prompt_tokens = 60
    config.eval.max_tokens = 68
    config.log.note = NOTE if preset == "A15" else ""
    return presets.apply(config, preset)

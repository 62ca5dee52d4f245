"""GCCPO on Qwen2.5-1.5B-Instruct and GSM8K: a recipe for one large GPU or a TPU host.

Command   python -m pip install -e '.[cuda]'      (or '.[tpu]')
          python -m gccpo_jax.train --config configs/qwen2_5_1_5b_gsm8k.py \
              --config.data.path=gsm8k_train.jsonl --config.data.eval_path=gsm8k_test.jsonl
          on eight devices add --config.mesh.fsdp=8 --config.optim.micro_batch=8
Hardware  planned, docs/scaling.md: 41 GiB on one device, 11 GiB on each of eight; the update takes
          the most
Hours     expected 8-12 on one H100-class GPU for 300 steps (an estimate, see below)

Untested: no part of this recipe has been run at this size. Family, tokenizer and weights
are those of the tests (a small random Qwen2 against PyTorch); the sizes below come from
counting bytes, not from measurements. The learning rate, group and
clip range follow what is customary for GRPO at this scale.
"""

from gccpo_jax import presets
from gccpo_jax.config import default


def get_config(preset="A7"):
    config = default()
    config.steps = 300
    config.batch_size = 32
    config.group_size = 8
    config.policy.path = "Qwen/Qwen2.5-1.5B-Instruct"
    config.policy.dtype = "float32"  # what is trained: at lr 1e-6 bfloat16 rounds updates away
    config.policy.compute = "bfloat16"
    config.policy.remat = True
    config.task.name = "gsm8k"
    config.data.max_prompt_tokens = 320
    config.sampling.max_tokens = 512
    config.segmentation.min_tokens = 12
    config.segmentation.max_tokens = 160
    config.counterfactual.surface_arms = 0  # names can be rewritten in half of the questions only
    config.counterfactual.latent_arms = 2
    config.counterfactual.max_answer_tokens = 10
    config.credit.tokens_per_unit = 50.0
    config.objective.beta = 0.001
    config.optim.lr = 1e-6
    config.optim.warmup = 10
    config.optim.micro_batch = 2
    config.eval.every = 50
    config.eval.questions = 400
    config.eval.ood_questions = 0
    config.eval.batch = 100
    config.checkpoint.every = 25
    return presets.apply(config, preset)

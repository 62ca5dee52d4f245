"""Tunix's GRPO with the counterfactual step reward.

pip install google-tunix; python examples/with_tunix.py
"""

import jax
import optax
from flax import nnx
from transformers import AutoTokenizer
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
from tunix.rl.rollout.base_rollout import RolloutConfig

from gccpo_jax.analysis.step_reward import step_reward
from gccpo_jax.policy.locate import locate
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

task = chain(ChainConfig(train=2, id=2, ood=2, max_operations=3))
ours, items = step_reward(open_model("tiny", task)), task.splits["train"]
batch = {"question": [x.question for x in items], "answer": [x.answer for x in items]}
batch["prompts"] = [task.prompt(item) for item in items]


def reward(prompts, completions, **kwargs):
    found = ours(prompts, completions, **kwargs)
    print("rewards", found)
    return found


words = AutoTokenizer.from_pretrained(locate("tiny"), bos_token="<pad>")
shape = dict(num_layers=2, embed_dim=32, hidden_dim=64, num_heads=2, head_dim=16, num_kv_heads=2)
shape |= dict(vocab_size=104, rope_theta=10000, norm_eps=1e-5)
actor, reference = (Llama3(ModelConfig(**shape), rngs=nnx.Rngs(0)) for _ in range(2))
mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), devices=jax.devices()[:1])
roles = dict.fromkeys((Role.ACTOR, Role.REFERENCE, Role.ROLLOUT), mesh)
training = RLTrainingConfig(actor_optimizer=optax.adamw(1e-5), eval_every_n_steps=9, max_steps=2)
sizes = RolloutConfig(max_tokens_to_generate=40, max_prompt_length=48, kv_cache_size=96)
settings = ClusterConfig(role_to_mesh=roles, training_config=training, rollout_config=sizes)
models = RLCluster(actor=actor, reference=reference, tokenizer=words, cluster_config=settings)
GRPOLearner(models, GRPOConfig(num_generations=2), reward).train([batch] * 2)

"""Tunix's GRPO with the counterfactual step reward per completion, and step effects per token.

pip install google-tunix; python examples/with_tunix.py
"""

from functools import partial

import jax
import numpy as np
import optax
from flax import nnx
from transformers import AutoTokenizer
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
from tunix.rl.rollout.base_rollout import RolloutConfig

from gccpo_jax.analysis.step_reward import step_reward, token_advantages
from gccpo_jax.policy.locate import locate
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

task = chain(ChainConfig(train=2, id=2, ood=2, max_operations=3))
reader, items = open_model("tiny", task), task.splits["train"]
rows = [dict(question=x.question, answer=x.answer, prompts=task.prompt(x)) for x in items]
batch = {name: np.array([row[name] for row in rows]) for name in rows[0]}
words = AutoTokenizer.from_pretrained(locate("tiny"), bos_token="<pad>")
decode = partial(words.decode, skip_special_tokens=True)


class PerToken(GRPOLearner):
    def _generate_and_compute_advantage(self, rows, *mode):
        out = super()._generate_and_compute_advantage(rows, *mode)
        ids, mask = np.asarray(out.completion_ids), np.asarray(out.completion_mask)
        effects = token_advantages(reader, rows["question"], rows["answer"], ids, mask, decode)
        return out.replace(advantages=out.advantages[:, None] + effects)  # [N], [N, T]


def said(rewards, advantages, **columns):
    print("rewards", rewards.tolist())
    return {}


shape = dict(num_layers=2, embed_dim=32, hidden_dim=64, num_heads=2, head_dim=16, num_kv_heads=2)
shape |= dict(vocab_size=104, rope_theta=10000, norm_eps=1e-5)
actor, reference = (Llama3(ModelConfig(**shape), rngs=nnx.Rngs(0)) for _ in range(2))
mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
roles = dict.fromkeys((Role.ACTOR, Role.REFERENCE, Role.ROLLOUT), mesh)
training = RLTrainingConfig(actor_optimizer=optax.adamw(1e-5), eval_every_n_steps=9, max_steps=2)
sizes = RolloutConfig(max_tokens_to_generate=40, max_prompt_length=48, kv_cache_size=96)
settings = ClusterConfig(role_to_mesh=roles, training_config=training, rollout_config=sizes)
models = RLCluster(actor=actor, reference=reference, tokenizer=words, cluster_config=settings)
learner = PerToken(models, GRPOConfig(num_generations=2), step_reward(reader), [said])
learner.train([batch] * 2)

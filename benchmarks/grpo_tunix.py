"""Contestant: one update of Tunix's GRPO loss on Tunix's decoder, or a step with its sampler.

    python benchmarks/grpo_tunix.py update|step SHAPE QUESTIONS GROUP PROMPT RESPONSE

Tunix's registered policy loss and its trainer's step: value and gradient, then the optimizer,
in one `nnx.jit` with model and optimizer donated. A step samples with temperature before.
"""

from __future__ import annotations

import functools
import sys

import jax.numpy as jnp
import numpy as np
import optax
from entrant import serve
from flax import nnx
from rollout_tunix import SHAPES, make_sampler
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.rl import common, function_registry
from tunix.rl.agentic.agentic_grpo_learner import GRPOConfig

what, shape, *sizes = sys.argv[1:]
questions, group, prompt, response = map(int, sizes)
rows = questions * group
network = Llama3(ModelConfig(**SHAPES[shape]), rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(network, optax.adamw(1e-6, 0.9, 0.99), wrt=nnx.Param)
config = GRPOConfig(beta=0.0)
config.temperature = 1.0
loss_fn = function_registry.get_policy_loss_fn(config.policy_loss_fn)
random = np.random.default_rng(0)
asked = random.integers(2, SHAPES[shape]["vocab_size"], (questions, prompt)).repeat(group, 0)


def example(completion: np.ndarray, advantage: np.ndarray) -> common.TrainExample:
    """Rollouts whose rows all have their full length."""
    return common.TrainExample(
        prompt_ids=jnp.asarray(asked, jnp.int32),
        prompt_mask=jnp.ones((rows, prompt), bool),
        completion_ids=jnp.asarray(completion, jnp.int32),
        completion_mask=jnp.ones((rows, response), bool),
        advantages=jnp.asarray(advantage, jnp.float32),
        ref_per_token_logps=None,
        old_per_token_logps=jnp.full((rows, response), -11.0),
    )


@functools.partial(nnx.jit, donate_argnums=(0, 1))
def update(network: Llama3, optimizer: nnx.Optimizer, batch: common.TrainExample) -> object:
    found = nnx.value_and_grad(
        functools.partial(loss_fn, algo_config=config, pad_id=0, eos_id=1), has_aux=True
    )
    (loss, _), grads = found(network, batch)
    optimizer.update(network, grads)
    return loss


given = example(
    random.integers(2, SHAPES[shape]["vocab_size"], (rows, response)), random.normal(size=rows)
)
sampler = make_sampler(network, shape, prompt, response) if what == "step" else None
seed = iter(range(1000))


def rollouts() -> common.TrainExample:
    """Samples, rewards on the host by the first token, and normalises by group."""
    sampler.transformer_state = nnx.variables(network, nnx.Param)
    texts = [" ".join(map(str, row[1:])) for row in asked]  # the sampler puts BOS in front
    found = sampler(
        texts, max_generation_steps=response, max_prompt_length=prompt, temperature=1.0, top_p=1.0,
        seed=next(seed), eos_tokens=[SHAPES[shape]["vocab_size"]],
    )  # fmt: skip
    completion = np.stack([np.asarray(row) for row in found.tokens])
    reward = (completion[:, 0] % 2).reshape(questions, group)
    centred = reward - reward.mean(1, keepdims=True)
    return example(completion, (centred / (reward.std(1, ddof=1, keepdims=True) + 1e-4)).ravel())


def work() -> None:
    batch = given if what == "update" else rollouts()
    assert np.isfinite(float(update(network, optimizer, batch)))


serve(work)

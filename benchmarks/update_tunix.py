"""Contestant: one optimizer update of Tunix's GRPO loss on Tunix's decoder.

    python benchmarks/update_tunix.py SHAPE ROWS PROMPT RESPONSE

Tunix's registered policy loss and its trainer's step: value and gradient, then the optimizer,
in one `nnx.jit` with model and optimizer donated.
"""

from __future__ import annotations

import functools
import sys

import jax.numpy as jnp
import numpy as np
import optax
from entrant import serve
from flax import nnx
from rollout_tunix import SHAPES
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.rl import common, function_registry
from tunix.rl.agentic.agentic_grpo_learner import GRPOConfig

shape, *sizes = sys.argv[1:]
rows, prompt, response = map(int, sizes)
network = Llama3(ModelConfig(**SHAPES[shape]), rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(network, optax.adamw(1e-6, 0.9, 0.99), wrt=nnx.Param)
config = GRPOConfig(beta=0.0)
config.temperature = 1.0
loss_fn = function_registry.get_policy_loss_fn(config.policy_loss_fn)
random = np.random.default_rng(0)
draw = lambda width: jnp.asarray(random.integers(2, 100, (rows, width)), jnp.int32)  # noqa: E731
example = common.TrainExample(
    prompt_ids=draw(prompt),
    prompt_mask=jnp.ones((rows, prompt), bool),
    completion_ids=draw(response),
    completion_mask=jnp.ones((rows, response), bool),
    advantages=jnp.asarray(random.normal(size=rows), jnp.float32),
    ref_per_token_logps=None,
    old_per_token_logps=jnp.full((rows, response), -11.0),
)


@functools.partial(nnx.jit, donate_argnums=(0, 1))
def step(network: Llama3, optimizer: nnx.Optimizer, example: common.TrainExample) -> object:
    found = nnx.value_and_grad(
        functools.partial(loss_fn, algo_config=config, pad_id=0, eos_id=1), has_aux=True
    )
    (loss, _), grads = found(network, example)
    optimizer.update(network, grads)
    return loss


def work() -> None:
    assert np.isfinite(float(step(network, optimizer, example)))


serve(work)

"""Parameters split over `fsdp` are gathered layer by layer; activations stay where they are."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.objective.update import make_optimizer, make_update, rl_loss
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime import sharding
from gccpo_jax.types import TrainState, UpdateBatch

ARCH = Arch(vocab_size=64, width=32, depth=2, heads=4, kv_heads=4, head_dim=8, mlp_width=48)
B, G, S, T = 16, 4, 5, 128  # micro-batches of 8: more tokens than one chunk of log-probabilities
COLLECTIVE = re.compile(r"= (\(?\S.*?\)?) (all-gather|all-reduce|all-to-all|reduce-scatter)\(")


def collectives(data, fsdp, tensor, compute=""):
    """(kind, shapes) of every collective of an update's compiled program."""
    mesh = sharding.make_mesh(data, fsdp, tensor)
    policy = model.make_policy(ARCH, True, mesh, compute)
    places = sharding.parameter_shardings(mesh, model.abstract(ARCH), model.logical_axes(ARCH))
    optimizer = make_optimizer(lr=1e-2, steps=5)
    moments = jax.eval_shape(optimizer.init, model.abstract(ARCH))
    one = sharding.replicated(mesh)
    shardings = TrainState(places, sharding.state_shardings(mesh, moments, places), one)
    shapes = TrainState(model.abstract(ARCH), moments, jax.ShapeDtypeStruct((), jnp.int32))
    state = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, shardings
    )
    zeros = np.zeros((B, G, T), np.float32)
    prompt, tokens = np.zeros((B, S), np.int32), np.zeros((B, G, T), np.int32)
    batch = UpdateBatch(
        prompt, prompt == 0, tokens, tokens == 0, zeros, zeros, zeros, np.zeros((B, G), np.float32)
    )
    loss = rl_loss(policy, rule=Rule(), max_tokens=T)
    update = make_update(loss, optimizer, micro_batch=8, shardings=shardings)
    text = update.lower(state, sharding.put_batch(mesh, batch)).compile().as_text()
    found = []
    for shapes, kind in COLLECTIVE.findall(text):
        sizes = re.findall(r"\w+\[([\d,]*)\]", shapes)
        found += [(kind, tuple(int(n) for n in size.split(",") if n)) for size in sizes]
    return found


@pytest.mark.parametrize("compute", ["", "bfloat16"])
@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 8, 1), (2, 4, 1)], ids=str)
def test_only_parameters_and_their_gradients_travel(mesh, compute):
    found = collectives(*mesh, compute)
    layers = [leaf.shape for leaf in jax.tree.leaves(model.abstract(ARCH))]
    allowed = {size for shape in layers for size in (np.prod(shape), np.prod(shape[1:]))}
    assert {kind for kind, _ in found} <= {"all-gather", "all-reduce", "reduce-scatter"}
    assert all(np.prod(shape) in allowed for _, shape in found if shape), "weights and scalars"
    gathered = [shape for kind, shape in found if kind == "all-gather"]
    assert bool(gathered) == (mesh[1] > 1)
    if gathered:  # q of a layer, forward and again backward, prompts and responses
        assert gathered.count((32, 4, 8)) >= 4 * 3


def test_partial_sums_of_activations_travel_over_tensor_only():
    sizes = {np.prod(shape) for kind, shape in collectives(2, 2, 2) if kind == "all-reduce"}
    assert 2 * G * (T - 1) * 32 in sizes, "a device's questions, their hidden states"
    assert not sizes & {n * G * (T - 1) * 32 for n in (4, 8)}, "and nobody else's"

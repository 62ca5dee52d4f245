"""Adapters against the full model restricted to low-rank directions, and against `peft`'s files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from gccpo_jax.config import LoraConfig
from gccpo_jax.config.sections import MATRICES
from gccpo_jax.errors import UserError
from gccpo_jax.objective.losses import Loss
from gccpo_jax.objective.update import make_optimizer, make_update
from gccpo_jax.policy import lora, model, weights
from gccpo_jax.policy.peft import save_peft
from gccpo_jax.training.adapters import join_of
from gccpo_jax.types import Segment, TrainState, UpdateBatch
from tests.policy.test_model import POSITIONS, TINY, TOKENS, perturbed

RANK_3 = LoraConfig(rank=3, alpha=6.0)
LEARNING_RATE = 0.1


def adapters(section, layers, seed=1):
    """Both halves random, as after some training."""
    random = np.random.default_rng(seed)
    leaves = lora.shapes(section, layers)
    return {n: jnp.asarray(0.3 * random.standard_normal(x.shape, "f")) for n, x in leaves.items()}


def test_one_update_of_a_small_matrix_is_that_of_its_low_rank_directions():
    """With G the gradient of all of W: dA = s G B', dB = s A' G, and Adam's first step of those."""
    random = np.random.default_rng(0)
    w, x, y = (random.standard_normal(shape, "f") for shape in ((1, 5, 2, 2), (7, 5), (7, 4)))
    section = LoraConfig(rank=2, alpha=3.0, targets="q")
    base = {"embed": jnp.zeros(1), "layers": {"q": jnp.asarray(w)}}
    own = adapters(section, base["layers"])
    (a,), (b,) = np.asarray(own["q_a"]), np.asarray(own["q_b"]).reshape(1, 2, 4)

    def loss(params, batch):
        layer = jax.tree.map(lambda leaf: leaf[0], params["layers"])
        found = lora.adapted(lambda x, w: x @ w.reshape(x.shape[1], -1), layer, "q", jnp.asarray(x))
        zero = jnp.float32(0)
        return Loss(0.5 * jnp.sum((found - y) ** 2), jnp.float32(1), *[zero] * 5)

    one, true = jnp.ones((1, 1, 1)), jnp.ones((1, 1, 1), bool)
    batch = UpdateBatch(one[0].astype(int), true[0], one.astype(int), true, one, one, one)
    optimizer = make_optimizer(lr=LEARNING_RATE, steps=1, clip_norm=0.0)
    state = TrainState(own, optimizer.init(own), jnp.int32(0))
    update = make_update(loss, optimizer, micro_batch=1, join=join_of(section))
    before = jax.tree.map(np.array, own)
    after, metrics = update(state, batch, base)
    scale = 3.0 / 2
    gradient = x.T @ (x @ (w.reshape(5, 4) + scale * a @ b) - y)
    expected = {"q_a": scale * gradient @ b.T, "q_b": scale * a.T @ gradient}
    norm = np.sqrt(sum((g**2).sum() for g in expected.values()))
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    for name, g in expected.items():
        moved = np.asarray(after.params[name]) - before[name]
        step = LEARNING_RATE * g / (np.abs(g) + 1e-8)
        np.testing.assert_allclose(moved.ravel(), -step.ravel(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(base["layers"]["q"], w)


def test_a_rank_that_no_product_has_is_refused():
    """W of q is [5, 2 x 2], of the narrower k [5, 2 x 1]: at most 4."""
    layers = {"q": jnp.zeros((1, 5, 2, 2)), "k": jnp.zeros((1, 5, 2, 1))}
    assert lora.shapes(LoraConfig(rank=4, targets="q k"), layers)["k_a"].shape == (1, 5, 4)
    with pytest.raises(UserError, match="rank 5: .* has at most rank 4"):
        lora.shapes(LoraConfig(rank=5, targets="q k"), layers)


def test_the_adapted_decoder_is_the_merged_one_in_value_and_gradient():
    """For every matrix and family part at once; decoding too."""
    base = perturbed(TINY)
    own = adapters(RANK_3, base["layers"])
    policy = model.make_policy(TINY)
    join = join_of(RANK_3)
    mask = jnp.ones(TOKENS.shape, bool)
    weigh = jnp.asarray(np.random.default_rng(2).standard_normal((12, 31), "f"))

    def score(params):
        hidden, _ = policy.encode(params, TOKENS, POSITIONS, mask, ())
        return jnp.sum(weigh * policy.logits(params, hidden))

    adapted = join(base, own)
    layers = {name: lora.merged(adapted["layers"], name) for name in base["layers"]}
    value, full = jax.jit(jax.value_and_grad(score))(base | {"layers": layers})
    found, low = jax.jit(jax.value_and_grad(lambda own: score(join(base, own))))(own)
    assert float(found) == pytest.approx(float(value), rel=1e-4)
    scale = RANK_3.alpha / RANK_3.rank
    for name in MATRICES:
        g = np.asarray(full["layers"][name])
        a, b = np.asarray(own[f"{name}_a"]), np.asarray(own[f"{name}_b"])
        for layer in range(TINY.depth):
            left, right = a[layer].reshape(-1, 3), b[layer].reshape(3, -1)
            whole = g[layer].reshape(len(left), -1)
            for half, expected in (("a", whole @ right.T), ("b", left.T @ whole)):
                wanted = scale * expected
                given = np.asarray(low[f"{name}_{half}"][layer]).reshape(wanted.shape)
                np.testing.assert_allclose(
                    given, wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max()
                )
    first = slice(0, 1)
    hidden, _ = policy.encode(adapted, TOKENS[first], POSITIONS[first], mask[first], ())
    empty = jnp.zeros((TINY.depth, TINY.kv_heads, 1, TINY.head_dim))
    own_cache = Segment(empty, empty, jnp.ones(1, bool))
    given = (TOKENS[0], POSITIONS[0], (), own_cache, jnp.int32(0))
    turned = policy.decoder.unroll(adapted)
    np.testing.assert_allclose(
        policy.decoder.step(turned, *given)[0], hidden[0], rtol=1e-4, atol=1e-4
    )


def test_a_policy_starts_as_its_base_and_a_folder_for_peft_holds_what_is_merged(tmp_path):
    base = perturbed(TINY)
    section = LoraConfig(rank=2, alpha=1.0, targets="o down k")
    start = lora.join(base, lora.init(section, base["layers"], jax.random.key(0)), 0.5)
    assert set(start["layers"]) - set(base["layers"]) == {
        "o_a", "o_b", "down_a", "down_b", "k_a", "k_b"
    }  # fmt: skip
    plain = weights.to_hf_tensors(TINY, base)
    for name, tensor in weights.to_hf_tensors(TINY, start).items():
        np.testing.assert_array_equal(tensor, plain[name])
    own = adapters(section, base["layers"])
    merged = weights.to_hf_tensors(TINY, lora.join(base, own, 0.5))
    save_peft(tmp_path / "adapter", TINY, own, section, "somewhere")
    said = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert said["target_modules"] == ["o_proj", "down_proj", "k_proj"]
    tensors = safetensors.numpy.load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    seen = set()
    for name, tensor in merged.items():
        prefix = "base_model.model." + name.removesuffix(".weight")
        low = 0.0
        if f"{prefix}.lora_A.weight" in tensors:
            seen |= {f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight"}
            low = tensors[f"{prefix}.lora_B.weight"] @ tensors[f"{prefix}.lora_A.weight"]
        scale = said["lora_alpha"] / said["r"]
        np.testing.assert_allclose(tensor, plain[name] + scale * low, rtol=1e-5, atol=1e-5)
    assert seen == set(tensors) and len(seen) == 2 * 3 * TINY.depth


def test_the_digest_tells_a_base_from_another():
    base = perturbed(TINY)
    other = base | {"layers": base["layers"] | {"v": base["layers"]["v"] * 1.001}}
    assert lora.fingerprint(base) == lora.fingerprint(perturbed(TINY)) != lora.fingerprint(other)

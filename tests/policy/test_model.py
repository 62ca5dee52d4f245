"""The decoder against PyTorch, and the laws that sampling and branches rely on."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from gccpo_jax.errors import UserError
from gccpo_jax.policy import attention, model, weights
from gccpo_jax.policy.arch import Arch, Llama3Rope
from gccpo_jax.policy.attention import attend
from gccpo_jax.types import Segment
from tests.helpers.paths import GOLDEN

FAMILIES = sorted(path.name for path in GOLDEN.iterdir())
TINY = Arch(
    vocab_size=31,
    width=16,
    depth=2,
    heads=4,
    kv_heads=2,
    head_dim=6,
    mlp_width=20,
    tied=False,
    qkv_bias=True,
    out_bias=True,
    qk_norm=True,
    rope_scaling=Llama3Rope(4.0, 1.0, 4.0, 32),
)
TOKENS = jnp.arange(3, 15) * 7 % 31  # [S = 12], distinct
POSITIONS = jnp.arange(12) * 3


def perturbed(arch, seed=0):
    """Parameters in which scales and biases matter too."""
    random = np.random.default_rng(seed)
    flat = {
        name: jnp.asarray(leaf.mean + (leaf.std + 0.2) * random.standard_normal(leaf.shape, "f"))
        for name, leaf in model.layout(arch).items()
    }
    return model.nest(flat)


def compiled(arch, remat=False):
    """The policy with both functions jitted: the tests run faster so."""
    policy = model.make_policy(arch, remat)
    return dataclasses.replace(policy, encode=jax.jit(policy.encode), logits=jax.jit(policy.logits))


def encode_in_parts(policy, params, lengths, tokens=TOKENS, positions=POSITIONS):
    """Hidden states [S, M] of a sequence read in consecutive parts of these lengths."""
    past, hidden, start = (), [], 0
    for length in lengths:
        part = slice(start, start + length)
        mask = jnp.ones(length, bool)
        h, segment = policy.encode(params, tokens[part], positions[part], mask, past)
        past, start = (*past, segment), start + length
        hidden.append(h)
    return jnp.concatenate(hidden)


@pytest.fixture(scope="module")
def tiny():
    return compiled(TINY), perturbed(TINY)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_pytorch(family):
    arch, params = weights.load(GOLDEN / family)
    policy = model.make_policy(arch)
    golden = np.load(GOLDEN / family / "golden.npz")

    @jax.jit
    @jax.vmap
    def logits(tokens, positions):
        hidden, _ = policy.encode(params, tokens, positions, jnp.ones(12, bool), ())
        return policy.logits(params, hidden)

    actual = logits(jnp.asarray(golden["tokens"]), jnp.asarray(golden["positions"]))
    np.testing.assert_allclose(actual, golden["logits"], atol=1e-4)


@pytest.mark.parametrize("lengths", [(5, 7), (3, 4, 5), (11, 1)])
def test_encoding_in_segments_equals_encoding_at_once(tiny, lengths):
    whole = encode_in_parts(*tiny, (12,))
    np.testing.assert_allclose(encode_in_parts(*tiny, lengths), whole, atol=1e-5)


def test_decoding_token_by_token_into_a_buffer_equals_encoding_at_once(tiny):
    policy, params = tiny
    _, prompt = policy.encode(params, TOKENS[:4], POSITIONS[:4], jnp.ones(4, bool), ())
    shape = (TINY.depth, TINY.kv_heads, 8, TINY.head_dim)
    buffer = Segment(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(8, bool))

    def step(buffer, t):
        one = slice(None), slice(None), t
        token, position = TOKENS[t + 4][None], POSITIONS[t + 4][None]
        hidden, new = policy.encode(params, token, position, jnp.ones(1, bool), (prompt, buffer))
        k, v = buffer.k.at[one].set(new.k[:, :, 0]), buffer.v.at[one].set(new.v[:, :, 0])
        return Segment(k, v, buffer.mask.at[t].set(True)), hidden[0]

    _, hidden = jax.lax.scan(step, buffer, jnp.arange(8))
    np.testing.assert_allclose(hidden, encode_in_parts(*tiny, (12,))[4:], atol=1e-5)


def test_padding_changes_nothing(tiny):
    policy, params = tiny
    whole = encode_in_parts(policy, params, (12,))
    # Padding before, inside and after, with ids and positions that mean nothing.
    place = jnp.array([1, 2, 4])
    tokens = jnp.full(6, 10_000).at[0].set(-5).at[place].set(TOKENS[:3])
    positions = jnp.full(6, 77_777).at[place].set(POSITIONS[:3])
    mask = jnp.zeros(6, bool).at[place].set(True)
    hidden, prefix = policy.encode(params, tokens, positions, mask, ())
    np.testing.assert_allclose(hidden[place], whole[:3], atol=1e-5)
    assert np.isfinite(hidden).all()
    rest, _ = policy.encode(params, TOKENS[3:], POSITIONS[3:], jnp.ones(9, bool), (prefix,))
    np.testing.assert_allclose(rest, whole[3:], atol=1e-5)


def test_a_smaller_mask_is_a_shorter_context(tiny):
    policy, params = tiny
    _, long = policy.encode(params, TOKENS[:8], POSITIONS[:8], jnp.ones(8, bool), ())
    masked = Segment(long.k, long.v, jnp.arange(8) < 5)
    cut = Segment(long.k[:, :, :5], long.v[:, :, :5], jnp.ones(5, bool))
    suffix = (TOKENS[8:], POSITIONS[8:], jnp.ones(4, bool))
    expected, _ = policy.encode(params, *suffix, (cut,))
    np.testing.assert_allclose(policy.encode(params, *suffix, (masked,))[0], expected, atol=1e-5)


def test_vmap_over_a_group_equals_a_loop_and_shares_the_prompt(tiny):
    policy, params = tiny
    _, prompt = policy.encode(params, TOKENS[:11], POSITIONS[:11], jnp.ones(11, bool), ())
    rows = jax.random.randint(jax.random.key(0), (7, 3), 0, 31)

    def one(params, tokens, prompt):
        return policy.encode(params, tokens, 40 + jnp.arange(3), jnp.ones(3, bool), (prompt,))[0]

    group = jax.vmap(one, in_axes=(None, 0, None))
    single = jax.jit(one)
    expected = np.stack([single(params, row, prompt) for row in rows])
    np.testing.assert_allclose(jax.jit(group)(params, rows, prompt), expected, atol=1e-5)
    shapes = set(_shapes(jax.make_jaxpr(group)(params, rows, prompt).jaxpr))
    copies = [s for s in shapes if 7 in s and 11 in s and TINY.head_dim in s]
    assert not copies, f"keys or values of the prompt were copied for every row: {copies}"


def _shapes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (var.aval.shape for var in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from _shapes(inner)


@pytest.mark.parametrize("lengths", [(12,), (4, 8)])
def test_no_gradient_from_later_or_masked_tokens(tiny, lengths):
    policy, params = tiny

    def loss(table):
        return encode_in_parts(policy, params | {"embed": table}, lengths)[6].sum()

    size = jnp.abs(jax.jit(jax.grad(loss))(params["embed"])).sum(-1)
    assert (size[TOKENS[:7]] > 0).all()
    assert (size[TOKENS[7:]] == 0).all()


@pytest.mark.parametrize("with_past", [False, True])
def test_fully_masked_rows_are_finite_in_value_and_gradient(tiny, with_past):
    policy, params = tiny
    nothing = jnp.zeros(4, bool)

    shape = (TINY.depth, TINY.kv_heads, 4, TINY.head_dim)
    past = (Segment(jnp.ones(shape), jnp.ones(shape), nothing),) if with_past else ()

    def run(params):
        return policy.encode(params, TOKENS[:4], POSITIONS[:4], nothing, past)[0]

    gradient = jax.jit(jax.grad(lambda params: (run(params) ** 2).sum()))(params)
    assert np.isfinite(run(params)).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_attention_is_exact_for_extreme_scores():
    """One key dominates by hundreds of nats, in whichever segment it is."""
    q = jnp.full((1, 1, 2), 30.0)
    small, large = jnp.full((1, 1, 2), -30.0), jnp.full((1, 1, 2), 30.0)
    low, high = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2))
    mask = jnp.ones(1, bool)
    np.testing.assert_array_equal(attend(q, small, low, mask, ((large, high, mask),)), high)
    np.testing.assert_array_equal(attend(q, large, high, mask, ((small, low, mask),)), high)


def test_a_masked_key_does_not_shadow_the_others_however_large_its_score():
    q = jnp.full((1, 1, 2), 30.0)
    keys = jnp.stack([jnp.full((1, 2), 30.0), jnp.zeros((1, 2))], 1)  # the first is masked
    values = jnp.stack([jnp.full((1, 2), 9.0), jnp.ones((1, 2))], 1)
    past = ((keys, values, jnp.array([False, True])),)
    out = attend(q, jnp.zeros((1, 1, 2)), jnp.full((1, 1, 2), 3.0), jnp.ones(1, bool), past)
    np.testing.assert_allclose(out, jnp.full((1, 1, 2), 2.0))  # the mean of 1 and 3


@pytest.mark.parametrize("spans", [1, 2, 4], ids=["loop", "two loops", "no loop"])
@pytest.mark.parametrize("several", [False, True], ids=["one sequence", "three"])
def test_attention_by_blocks_of_queries_is_that_of_all_at_once(monkeypatch, several, spans):
    """Values and gradients, with a prompt, grouped heads, padding and a short last block."""
    monkeypatch.setattr(attention, "QUERIES", 4 if spans == 4 else 2)
    monkeypatch.setattr(attention, "SPANS", spans)
    size, keys = 11, jax.random.split(jax.random.key(0), 5)
    shapes = (size, 4, 8), (2, size, 8), (2, size, 8), (2, 3, 8), (2, 3, 8)
    given = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]
    mask, seen = jnp.arange(size) < size - 1, jnp.array([True, False, True])
    sequences = jnp.array([0] * 3 + [2] * 4 + [1] * 4)

    def dense(q, k, v, pk, pv):
        own = np.tril(np.ones((size, size), bool)) & np.asarray(mask)[None]
        if several:
            own &= np.equal.outer(sequences, sequences)
        visible = np.concatenate([np.broadcast_to(seen, (size, 3)), own], 1)
        k, v = (jnp.repeat(jnp.concatenate(x, 1), 2, axis=0) for x in ((pk, k), (pv, v)))
        scores = jnp.where(visible[None], jnp.einsum("shd,hjd->hsj", q, k) / 8**0.5, -jnp.inf)
        return jnp.einsum("hsj,hjd->shd", jax.nn.softmax(scores), v)

    def blocked(q, k, v, pk, pv):
        return attend(q, k, v, mask, ((pk, pv, seen),), sequences if several else None)

    weight = jax.random.normal(jax.random.key(9), shapes[0])
    run = lambda f: jax.value_and_grad(lambda x: (f(*x) * weight)[:-1].sum())(given)  # noqa: E731
    np.testing.assert_allclose(blocked(*given)[:-1], dense(*given)[:-1], atol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), run(blocked), run(dense))


@pytest.mark.parametrize("lengths", [(12,), (5, 7)])
def test_bfloat16(lengths):
    arch, params = weights.load(GOLDEN / "qwen2", dtype="bfloat16")
    golden = np.load(GOLDEN / "qwen2" / "golden.npz")
    policy = compiled(arch)
    tokens = jnp.asarray(golden["tokens"][0])
    hidden = encode_in_parts(policy, params, lengths, tokens, jnp.arange(12))
    logits = policy.logits(params, hidden)
    assert hidden.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
    assert np.abs(logits - golden["logits"][0]).mean() < 0.05


def test_remat_changes_nothing(tiny):
    policy, params = tiny
    _, past = policy.encode(params, TOKENS[:5], POSITIONS[:5], jnp.ones(5, bool), ())
    rest = TOKENS[5:], POSITIONS[5:], jnp.ones(7, bool), (past,)

    def total(remat):
        encode = model.make_policy(TINY, remat).encode
        return lambda p: (encode(p, *rest)[0] ** 3).sum()

    def kept(remat):
        backward = jax.eval_shape(lambda p: jax.vjp(total(remat), p)[1], params)
        return sum(x.size for x in jax.tree.leaves(backward))

    weights = sum(x.size for x in jax.tree.leaves(params))
    assert kept(True) - weights < 0.5 * (kept(False) - weights)
    plain, other = (jax.jit(jax.grad(total(remat)))(params) for remat in (False, True))
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


def test_init_abstract_and_axes_describe_one_tree():
    params = jax.eval_shape(lambda: model.init(TINY, jax.random.key(0)))
    shapes = model.abstract(TINY)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), shapes
    )
    axes = model.logical_axes(TINY)
    ranks = jax.tree.map(len, axes, is_leaf=lambda x: isinstance(x, tuple))
    assert ranks == jax.tree.map(lambda x: x.ndim, params)
    assert axes["layers"]["q"] == ("layers", "embed", "heads", "head")


def test_initial_model_is_undecided_and_depends_on_the_key():
    arch = Arch(vocab_size=16, width=16, depth=1, heads=2, kv_heads=2, head_dim=8, mlp_width=16)
    policy = compiled(arch)
    first, second = (model.init(arch, jax.random.key(seed)) for seed in (0, 1))
    hidden, _ = policy.encode(first, jnp.arange(4), jnp.arange(4), jnp.ones(4, bool), ())
    assert jax.nn.softmax(policy.logits(first, hidden)).max() < 0.9
    assert (first["embed"] != second["embed"]).any()
    assert (first["norm"] == 1).all()


CONFIG = TINY.to_hf() | {"model_type": "llama"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "mixtral"}, "model_type='mixtral'"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"sliding_window": 512, "use_sliding_window": True}, "sliding_window=512"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type='yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_type='dynamic'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"torch_dtype": "float64"}, "dtype='float64'"),
        ({"num_key_value_heads": 3}, "kv_heads=3"),
        ({"head_dim": 7}, "head_dim=7"),
    ],
)
def test_unsupported_config_names_field_and_value(change, words):
    with pytest.raises(UserError) as error:
        Arch.from_hf(CONFIG | change)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_missing_config_field():
    with pytest.raises(UserError, match="hidden_size"):
        Arch.from_hf({k: v for k, v in CONFIG.items() if k != "hidden_size"})


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": 4096},  # longer than the context
        {"sliding_window": 16, "use_sliding_window": False},
        {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 2},
        {"sliding_window": 16, "layer_types": ["full_attention"] * 2},
    ],
)
def test_a_sliding_window_that_is_not_in_use_is_fine(change):
    base = {k: v for k, v in CONFIG.items() if k != "use_sliding_window"}
    assert Arch.from_hf(base | change).depth == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_arch_survives_its_config(family):
    arch, _ = weights.load(GOLDEN / family)
    assert Arch.from_hf(arch.to_hf()) == arch
    assert hash(arch) == hash(Arch.from_hf(arch.to_hf()))


def test_old_and_new_spelling_of_rope_agree():
    scaling = CONFIG["rope_scaling"]
    new = {k: v for k, v in CONFIG.items() if not k.startswith("rope")}
    new["rope_parameters"] = scaling | {"rope_theta": 1e4}
    assert Arch.from_hf(new) == Arch.from_hf(CONFIG)

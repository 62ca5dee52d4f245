"""A decoder of the Llama family as pure functions of a pytree of arrays.

Per layer, with RMSNorm n(x) = x / sqrt(mean(x^2) + eps) * scale,

    x <- x + o(attend(rope(q(n x)), rope(k(n x)), v(n x)))
    x <- x + down(silu(gate(n x)) * up(n x))

and logits = unembed(n x). All layers of a kind are one array with a leading axis
L, run by `lax.scan`, so the layer compiles once whatever the depth; decoding, which
reads all weights for each token, has one array per layer, transposed. RMSNorm, rotary
positions, softmax and logits are float32; everything else has the dtype of the
parameters it is given, or the one that they are rounded to in use (`make_policy`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.ad_checkpoint import checkpoint_name

from gccpo_jax.config.sections import MATRICES
from gccpo_jax.policy import fused_attention
from gccpo_jax.policy.arch import Arch, Llama3Rope
from gccpo_jax.policy.attention import attend, attend_to
from gccpo_jax.policy.cache import put
from gccpo_jax.policy.lora import adapted, halves
from gccpo_jax.policy.products import wide_product
from gccpo_jax.policy.token_law import EXCLUDED
from gccpo_jax.runtime import sharding
from gccpo_jax.types import Array, Context, Decoder, Params, Policy, Segment

__all__ = ["Arch", "Leaf", "Llama3Rope", "abstract", "init", "layout", "logical_axes"]
__all__ += ["make_policy"]


ATTENDED = "attended"

PRODUCTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(ATTENDED),
)
"""What a layer keeps for the backward pass; norms, rotations and gates are made again, which is
faster than to write and read them (7 % of an update of SmolLM2, with 42 % less memory)."""


class Leaf(NamedTuple):
    """One array of the parameters."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]  # logical names, one a dimension; None: never sharded
    mean: float = 0.0  # of the initial values
    std: float = 0.0  # of the initial values; 0: all equal


def _matrix(shape: tuple[int, ...], axes: tuple[str | None, ...], inputs: int) -> Leaf:
    """Normal with variance 1/inputs, so that outputs have the scale of the inputs."""
    return Leaf(shape, axes, std=1 / math.sqrt(inputs))


def layout(arch: Arch) -> dict[str, Leaf]:
    """Flat description of the parameters, `"layers/q" -> Leaf`; all else is derived from it."""
    m, f, d = arch.width, arch.mlp_width, arch.head_dim
    flat = {
        "embed": _matrix((arch.vocab_size, m), ("vocab", "embed"), m),
        "norm": Leaf((m,), (None,), mean=1.0),
    }
    if not arch.tied:
        flat["unembed"] = _matrix((arch.vocab_size, m), ("vocab", "embed"), m)
    layer = {
        "attention_norm": Leaf((m,), (None,), mean=1.0),
        "mlp_norm": Leaf((m,), (None,), mean=1.0),
        "o": _matrix((arch.heads, d, m), ("heads", "head", "embed"), arch.heads * d),
        "gate": _matrix((m, f), ("embed", "mlp"), m),
        "up": _matrix((m, f), ("embed", "mlp"), m),
        "down": _matrix((f, m), ("mlp", "embed"), f),
    } | _projections(arch)
    for name, leaf in layer.items():
        stacked = leaf._replace(shape=(arch.depth, *leaf.shape), axes=("layers", *leaf.axes))
        flat[f"layers/{name}"] = stacked
    return flat


def _projections(arch: Arch) -> dict[str, Leaf]:
    leaves = {}
    for name, count in (("q", arch.heads), ("k", arch.kv_heads), ("v", arch.kv_heads)):
        axis = "heads" if name == "q" else "kv_heads"
        shape = (arch.width, count, arch.head_dim)
        leaves[name] = _matrix(shape, ("embed", axis, "head"), arch.width)
        if arch.qkv_bias:
            leaves[f"{name}_bias"] = Leaf(shape[1:], (axis, "head"))
        if arch.qk_norm and name != "v":
            leaves[f"{name}_norm"] = Leaf((arch.head_dim,), (None,), mean=1.0)
    if arch.out_bias:
        leaves["o_bias"] = Leaf((arch.width,), (None,))
    return leaves


def nest(flat: dict[str, Any]) -> Params:
    """`{"layers/q": x}` as `{"layers": {"q": x}}`."""
    return traverse_util.unflatten_dict(flat, sep="/")


def init(arch: Arch, key: Array) -> Params:
    """Random parameters: normal with standard deviation 1/sqrt(inputs), scales 1, biases 0."""
    leaves = layout(arch)
    keys = dict(zip(leaves, jax.random.split(key, len(leaves)), strict=True))
    return nest({name: _draw(leaf, keys[name], arch.dtype) for name, leaf in leaves.items()})


def _draw(leaf: Leaf, key: Array, dtype: str) -> Array:
    if leaf.std == 0:  # constants need no noise, and each draw costs a compilation
        return jnp.full(leaf.shape, leaf.mean, dtype)
    values = leaf.mean + leaf.std * jax.random.normal(key, leaf.shape, jnp.float32)
    return values.astype(dtype)


def abstract(arch: Arch) -> Params:
    """Shapes and dtypes of the parameters, without allocating them."""
    shapes = {n: jax.ShapeDtypeStruct(leaf.shape, arch.dtype) for n, leaf in layout(arch).items()}
    return nest(shapes)


def logical_axes(arch: Arch) -> Params:
    """The tree of the parameters with a tuple of axis names in place of each array.

    Names: layers, embed, heads, kv_heads, head, mlp, vocab, or None.
    """
    return nest({name: leaf.axes for name, leaf in layout(arch).items()})


def shardings(mesh: jax.sharding.Mesh, arch: Arch) -> Params:
    """The tree of the parameters with where each array lies on a mesh."""
    return sharding.parameter_shardings(mesh, abstract(arch), logical_axes(arch))


@functools.cache
def make_policy(
    arch: Arch,
    remat: bool = False,
    mesh: jax.sharding.Mesh | None = None,
    compute: str = "",
    spare: tuple[tuple[int, int], ...] = (),
    fused: bool = False,
) -> Policy:
    """The decoder as a `Policy` for one sequence; callers add axes with `vmap`.

    Cached: a policy is a static argument of `jit`, so the same shape must give the same
    functions, or a second run in one process would compile everything again.

    The same `encode` serves prefill (S tokens), decoding (S = 1) and teacher-forced
    training. Token ids and positions of masked tokens may be anything.

    Args:
      arch: the shape that the parameters have.
      remat: of each layer keep for the backward pass its input alone, and make the rest again;
        else the products with weights and what attention gives (`PRODUCTS`).
      mesh: where the parameters lie; those split over `fsdp` are gathered layer by layer.
      compute: dtype that parameters are rounded to where they are used, "" for none. The
        results are those of a rounded copy, bit by bit; no such copy of all layers is
        kept in the update, and gradients have the dtype of the parameters.
      spare: ranges [first, end) of the vocabulary without a token (`Tokenizer.spare_rows`):
        their logits are `EXCLUDED` for whoever reads them, in sampling, scoring and the update.
      fused: where many tokens are read at once, attend by a kernel of cuDNN
        (`fused_attention.check_fused` says whether that can be).
    """
    narrow = _rounded(compute)
    axes = logical_axes(arch)
    of_layer = _layer_axes(axes)

    def whole(params: Params, name: str) -> Array:
        return sharding.gather(mesh, narrow(params[name]), axes[name])

    def encode(
        params: Params,
        tokens: Array,
        positions: Array,
        mask: Array,
        past: Context,
        sequences: Array | None = None,
    ) -> tuple[Array, Segment]:
        # "clip": a padding id outside the vocabulary must not become NaN.
        # Rounded after it is taken: a token that comes often adds up its gradients in float32.
        table = sharding.gather(mesh, params["embed"], axes["embed"])
        x = narrow(jnp.take(table, tokens, axis=0, mode="clip"))  # [S, M]
        rotation = _rotation(arch, positions)
        masks = tuple(segment.mask for segment in past)

        def layer(x: Array, inputs: tuple[Params, tuple]) -> tuple[Array, tuple[Array, Array]]:
            weights, cached = inputs
            weights = sharding.gather(mesh, narrow(weights), {n: of_layer[n] for n in weights})
            context = tuple((k, v, m) for (k, v), m in zip(cached, masks, strict=True))

            def attention(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, Array]]:
                long = fused and len(mask) >= fused_attention.LEAST
                mix = fused_attention.attend_fused if long else attend
                return mix(q, k, v, mask, context, sequences), (k, v)

            return _layer(arch, weights, x, rotation, _times, attention)

        cached = tuple((segment.k, segment.v) for segment in past)
        kept = None if remat else PRODUCTS
        body = jax.checkpoint(layer, prevent_cse=False, policy=kept)  # in a scan nothing is shared
        x, (k, v) = jax.lax.scan(body, x, (params["layers"], cached))
        return _norm(x, params["norm"], arch.norm_eps), Segment(k, v, mask)

    def logits(params: Params, hidden: Array) -> Array:
        name = "embed" if arch.tied else "unembed"
        if _is_unrolled(params):
            return allowed(_times_turned(hidden[None], params[name], jnp.float32)[0])
        table = whole(params, name)
        return allowed(wide_product("...m,vm->...v", hidden, table))

    has_token = np.ones(arch.vocab_size, bool)
    for first, end in spare:
        has_token[first:end] = False

    def allowed(logits: Array) -> Array:  # [..., V]
        return jnp.where(has_token, logits, EXCLUDED) if spare else logits

    return Policy(encode, logits, arch.vocab_size, _decoder(arch, mesh, narrow))


def _rounded(dtype: str) -> Callable[[Any], Any]:
    """A tree of arrays in that dtype; as it is for ""."""
    if not dtype:
        return lambda tree: tree
    return lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)


def _layer_axes(axes: Params) -> dict[str, tuple[str | None, ...]]:
    """Logical axes of one slice of the stack, those of adapters (`lora.py`) included."""
    found = {name: of[1:] for name, of in axes["layers"].items()}
    for name in MATRICES:
        found |= halves(name, found[name], None)
    return found


def _decoder(arch: Arch, mesh: jax.sharding.Mesh | None, narrow: Callable[[Any], Any]) -> Decoder:
    def unroll(params: Params) -> Params:
        def turned(name: str, w: Array) -> Array:
            matrix, _, half = name.partition("_")
            if matrix not in MATRICES or half not in ("", "a", "b"):
                return w
            if half:
                return (w.reshape(-1, w.shape[-1]) if half == "a" else w.reshape(w.shape[0], -1)).T
            inputs = -1 if name in ("o", "down") else arch.width
            return w.reshape(inputs, arch.width if inputs == -1 else -1).T

        # Whole over `fsdp` for the loop: gathered in it, they would travel for each token.
        axes = logical_axes(arch)
        of_layer = {name: ("layers", *of) for name, of in _layer_axes(axes).items()}
        axes |= {"layers": {name: of_layer[name] for name in params["layers"]}}
        whole = sharding.gather(mesh, narrow(params), axes)
        layers = tuple(
            {name: turned(name, stacked[layer]) for name, stacked in whole["layers"].items()}
            for layer in range(arch.depth)
        )
        return whole | {"layers": layers}

    def step(
        params: Params, token: Array, position: Array, past: Context, own: Segment, slot: Array
    ) -> tuple[Array, Segment]:
        x = jnp.take(params["embed"], token[None], axis=0, mode="clip")  # [1, M]
        rotation = _rotation(arch, position[None])
        written = []
        for layer, weights in enumerate(params["layers"]):
            parts = tuple((s.k[layer], s.v[layer], s.mask[None]) for s in past)
            old = own.k[layer], own.v[layer]

            def attention(
                q: Array, k: Array, v: Array, parts: tuple = parts, old: tuple = old
            ) -> tuple[Array, tuple[Array, Array]]:
                k, v = put(old[0], k, slot), put(old[1], v, slot)
                return attend_to(q, (*parts, (k, v, own.mask[None]))), (k, v)

            x, cache = _layer(arch, weights, x, rotation, _times_turned, attention)
            written.append(cache)
        k, v = zip(*written, strict=True)
        return _norm(x, params["norm"], arch.norm_eps)[0], Segment(k, v, own.mask)

    return Decoder(unroll, step)


def _is_unrolled(params: Params) -> bool:
    return isinstance(params["layers"], tuple)


def _times(x: Array, w: Array) -> Array:
    """x [S, I] times weights whose first axes are the inputs: [S, O]."""
    return x @ w.reshape(x.shape[1], -1)


def _times_turned(x: Array, w: Array, dtype: jnp.dtype | None = None) -> Array:
    """x [S, I] times weights [O, I]: [S, O], added up in float32, of x's dtype or another.

    On a CPU it is made as [O, S], which the barrier keeps: for few rows XLA's CPU product is a
    quarter faster with the weights on the left, as they lie in memory.
    """
    dtype, contracted = jnp.dtype(dtype or x.dtype), (((1,), (1,)), ((), ()))

    def turned(x: Array, w: Array) -> Array:
        product = jax.lax.dot_general(w, x, contracted, preferred_element_type=jnp.float32)
        return jax.lax.optimization_barrier(product).T.astype(dtype)

    def plain(x: Array, w: Array) -> Array:
        return jax.lax.dot_general(x, w, contracted, preferred_element_type=dtype)

    return jax.lax.platform_dependent(x, w, cpu=turned, default=plain)


def _layer(
    arch: Arch,
    w: Params,
    x: Array,
    rotation: tuple[Array, Array],
    times: Callable[[Array, Array], Array],
    attention: Callable[[Array, Array, Array], tuple[Array, tuple[Array, Array]]],
) -> tuple[Array, tuple[Array, Array]]:
    """One layer: the new residual stream [S, M] and what `attention` keeps.

    `times` applies a matrix; `attention(q[S, H, D], k[K, S, D], v[K, S, D])` mixes the heads.
    """
    h = _norm(x, w["attention_norm"], arch.norm_eps)
    q, k, v = (_project(arch, w, name, adapted(times, w, name, h)) for name in "qkv")
    q, k = _rotate(q, rotation), _rotate(k, rotation)
    heads, kept = attention(q, k.swapaxes(0, 1), v.swapaxes(0, 1))  # as segments keep them
    heads = checkpoint_name(heads, ATTENDED)
    # One axis of heads and their sizes: contracted as two, the weights are transposed first.
    mixed = adapted(times, w, "o", heads.reshape(x.shape[0], -1))
    x = x + (mixed + w["o_bias"][None] if arch.out_bias else mixed)
    h = _norm(x, w["mlp_norm"], arch.norm_eps)
    gate, up = (adapted(times, w, name, h) for name in ("gate", "up"))
    return x + adapted(times, w, "down", jax.nn.silu(gate) * up), kept


def _project(arch: Arch, w: Params, name: str, y: Array) -> Array:
    """A product [S, heads D] as [S, heads, D], with the bias and the head norm of the family."""
    y = y.reshape(y.shape[0], -1, arch.head_dim)
    if arch.qkv_bias:
        y = y + w[f"{name}_bias"][None]
    if arch.qk_norm and name != "v":
        y = _norm(y, w[f"{name}_norm"], arch.norm_eps)
    return y


def _norm(x: Array, scale: Array, eps: float) -> Array:
    """RMSNorm over the last axis, computed in float32, returned in x's dtype."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + eps)
    scale = scale.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + scale.shape)
    return (wide * scale).astype(x.dtype)


def _rotation(arch: Arch, positions: Array) -> tuple[Array, Array]:
    """float32 cos, sin [S, 1, D/2] of position times frequency theta^(-2i/D)."""
    exponents = jnp.arange(0, arch.head_dim, 2, dtype=jnp.float32) / arch.head_dim
    frequencies = arch.rope_theta**-exponents
    if arch.rope_scaling is not None:
        frequencies = stretch(frequencies, arch.rope_scaling)
    angles = positions.astype(jnp.float32)[:, None, None] * frequencies[None, None]
    return jnp.cos(angles), jnp.sin(angles)


def stretch(frequencies: Array, rope: Llama3Rope) -> Array:
    """Llama 3: divides low frequencies by `factor`, keeps high ones, blends in between.

    With n = original_max_position * frequency / 2 pi turns within the original context,
    the share of the kept frequency is (n - low) / (high - low), clipped to [0, 1].
    """
    turns = rope.original_max_position * frequencies / (2 * math.pi)
    keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    keep = jnp.clip(keep, 0.0, 1.0)
    return frequencies * (keep + (1 - keep) / rope.factor)


def _rotate(x: Array, rotation: tuple[Array, Array]) -> Array:
    """Turns the pairs (x_i, x_{i + D/2}) of every head [S, heads, D] by the position's angle."""
    cos, sin = rotation
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    return turned.astype(x.dtype)

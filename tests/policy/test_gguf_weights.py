"""Weights in GGUF files that the tests write themselves, in the layout of llama.cpp."""

import sys

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.policy import gguf_weights, weights
from gccpo_jax.policy.arch import Llama3Rope
from tests.helpers.paths import GOLDEN
from tests.helpers.trees import refused, same

gguf = pytest.importorskip("gguf")
WORDS = [
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
    ("model.layers", "blk"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.", "attn_"),
    ("mlp.", "ffn_"),
    ("_proj", ""),
]


def interleave(rows, heads):
    """Row i of a head's first half goes to 2i, row i of its second half to 2i + 1."""
    out = np.empty_like(rows)
    size = len(rows) // heads
    for head in range(heads):
        for i in range(size // 2):
            out[head * size + 2 * i] = rows[head * size + i]
            out[head * size + 2 * i + 1] = rows[head * size + size // 2 + i]
    return out


def write(path, arch, params, extra=None, metadata=None):
    """A GGUF file of a model."""
    name = "llama" if arch.family == "mistral" else arch.family
    writer = gguf.GGUFWriter(path, name)
    writer.add_context_length(arch.max_positions)
    writer.add_embedding_length(arch.width)
    writer.add_block_count(arch.depth)
    writer.add_feed_forward_length(arch.mlp_width)
    writer.add_head_count(arch.heads)
    writer.add_head_count_kv(arch.kv_heads)
    writer.add_key_length(arch.head_dim)
    writer.add_layer_norm_rms_eps(arch.norm_eps)
    writer.add_rope_freq_base(arch.rope_theta)
    for key, value in (metadata or {}).items():
        writer.add_key_value(f"{name}.{key}", value, gguf.GGUFValueType.UINT32)
    for source, tensor in (weights.to_hf_tensors(arch, params) | (extra or {})).items():
        if name == "llama" and ("q_proj" in source or "k_proj" in source):
            tensor = interleave(tensor, arch.heads if "q_proj" in source else arch.kv_heads)
        for theirs, ours in WORDS:
            source = source.replace(theirs, ours)
        writer.add_tensor(source, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("family", ["smollm2", "llama_bias", "mistral", "qwen2", "qwen3"])
def test_gguf_holds_the_same_model(family, tmp_path):
    arch, params = weights.load(GOLDEN / family)
    loaded, again = weights.load(write(tmp_path / "m.gguf", arch, params))
    same(params, again)
    fields = ("vocab_size", "tied", "qkv_bias", "out_bias", "qk_norm", "head_dim", "norm_eps")
    assert all(getattr(loaded, field) == getattr(arch, field) for field in fields)
    assert loaded.rope_theta == arch.rope_theta


def test_llama3_scaling_is_recognised_from_its_divisors(tmp_path):
    arch, params = weights.load(GOLDEN / "llama3")
    turns = 8192 * 1e4 ** -(np.arange(4) / 4) / (2 * np.pi)
    share = np.clip((turns - 1) / 3, 0, 1)
    divisors = (1 / (share + (1 - share) / 32)).astype(np.float32)
    path = write(tmp_path / "m.gguf", arch, params, {"rope_freqs.weight": divisors})
    # No frequency of this tiny head is slow enough to be divided by all of the 32.
    refused(path, "rope_freqs.weight")
    slow = 5e5 ** -(np.arange(32) / 32)
    share = np.clip((8192 * slow / (2 * np.pi) - 1) / 3, 0, 1)
    tensor = gguf.ReaderTensor(
        "rope_freqs.weight",
        gguf.GGMLQuantizationType.F32,
        np.array([32]),
        32,
        128,
        0,
        (1 / (share + (1 - share) / 32)).astype(np.float32),
        None,
    )
    expected = Llama3Rope(32.0, 1.0, 4.0, 8192)
    assert gguf_weights._scaling(path, tensor, 5e5, 64) == expected


def test_unpermute_undoes_the_interleaving():
    rows = np.arange(2 * 6 * 3).reshape(12, 3)
    np.testing.assert_array_equal(gguf_weights.unpermute(interleave(rows, 2), 2), rows)
    assert (interleave(rows, 2) != rows).any()


@pytest.mark.parametrize("keep", [0, 10, 300, -500])
def test_truncated_gguf(keep, tmp_path):
    path = write(tmp_path / "m.gguf", *weights.load(GOLDEN / "qwen2"))
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "m.gguf", "truncated or damaged")


def test_unknown_tensor(tmp_path):
    arch, params = weights.load(GOLDEN / "qwen2")
    extra = {"vision.weight": np.zeros(3, np.float32)}
    refused(write(tmp_path / "m.gguf", arch, params, extra), "unknown", "vision.weight")


@pytest.mark.parametrize("key", ["expert_count", "attention.sliding_window"])
def test_unsupported_features(key, tmp_path):
    arch, params = weights.load(GOLDEN / "qwen2")
    refused(write(tmp_path / "m.gguf", arch, params, metadata={key: 8}), key, "8")


def test_unsupported_architecture(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(tmp_path / "m.gguf", "'mamba'", "qwen3")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"gccpo-jax\[smollm2\]"):
        weights.load(tmp_path / "m.gguf")

"""A GGUF file of a policy: what `gguf_weights.py` reads, and llama.cpp.

Matrices are stored as F16, BF16 or Q8_0 (blocks of 32 numbers with one scale), vectors as F32. A
byte-level BPE of a known kind becomes `tokenizer.ggml.*`. Any other tokenizer is stored as its
`tokenizer.json` under `tokenizer.huggingface.json`, which this package reads and llama.cpp does
not.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.gguf_tokenizer import HUGGINGFACE, pre_tokenizer_of
from gccpo_jax.policy.gguf_weights import gguf_name
from gccpo_jax.policy.model import stretch
from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.policy.weights import to_hf_tensors
from gccpo_jax.types import Params

KINDS = ("F16", "BF16", "Q8_0")
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # values of tokenizer.ggml.token_type


def save_gguf(
    path: pathlib.Path, arch: Arch, params: Params, tokenizer: Tokenizer, kind: str = "F16"
) -> bool:
    """Writes the file, whole or not at all; whether llama.cpp knows the tokenizer.

    Args:
      path: of the file. arch, params: as `weights.load` returns them.
      kind: one of `KINDS`. A matrix whose rows do not fill Q8_0's blocks is stored as F16.

    Raises:
      UserError: an unknown kind, no package `gguf`, or a model that GGUF cannot say.
    """
    if kind not in KINDS:
        raise UserError(f"gguf {kind!r}: expected one of {', '.join(KINDS)}")
    try:
        import gguf
    except ImportError:
        raise UserError("writing GGUF needs the package gguf; run pip install gguf") from None
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    writer = gguf.GGUFWriter(scratch, _family(arch))
    _add_shape(writer, gguf, arch, kind)
    is_known = _add_tokenizer(writer, arch, tokenizer)
    for source, tensor in to_hf_tensors(arch, params).items():
        if _family(arch) == "llama" and (found := re.search(r"self_attn\.([qk])_proj", source)):
            tensor = permute(tensor, arch.heads if found[1] == "q" else arch.kv_heads)
        _add_tensor(writer, gguf, gguf_name(source), tensor, kind)
    if arch.rope_scaling:
        _add_tensor(writer, gguf, "rope_freqs.weight", _divisors(arch), kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return is_known


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `gguf_weights.unpermute`: halves (x_i, x_{i + D/2}) become neighbours."""
    split = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.swapaxes(split, 1, 2).reshape(rows.shape)


def _family(arch: Arch) -> str:
    return "llama" if arch.family == "mistral" else arch.family


def _add_shape(writer: Any, gguf: Any, arch: Arch, kind: str) -> None:
    writer.add_context_length(arch.max_positions)
    writer.add_embedding_length(arch.width)
    writer.add_block_count(arch.depth)
    writer.add_feed_forward_length(arch.mlp_width)
    writer.add_head_count(arch.heads)
    writer.add_head_count_kv(arch.kv_heads)
    writer.add_key_length(arch.head_dim)
    writer.add_value_length(arch.head_dim)
    writer.add_rope_dimension_count(arch.head_dim)
    writer.add_layer_norm_rms_eps(arch.norm_eps)
    writer.add_rope_freq_base(arch.rope_theta)
    writer.add_vocab_size(arch.vocab_size)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind}"))


def _add_tensor(writer: Any, gguf: Any, name: str, tensor: np.ndarray, kind: str) -> None:
    tensor = np.ascontiguousarray(tensor.astype(np.float32))
    if tensor.ndim < 2:
        writer.add_tensor(name, tensor)
        return
    fits = kind != "Q8_0" or tensor.shape[-1] % 32 == 0
    stored = gguf.GGMLQuantizationType[kind if fits else "F16"]
    writer.add_tensor(name, gguf.quantize(tensor, stored), raw_dtype=stored)


def _divisors(arch: Arch) -> np.ndarray:
    """What Llama 3's stretch divides each frequency by."""
    size = arch.head_dim
    plain = arch.rope_theta ** -(np.arange(0, size, 2, dtype=np.float32) / size)
    return (plain / np.asarray(stretch(jnp.asarray(plain), arch.rope_scaling))).astype(np.float32)


def _add_tokenizer(writer: Any, arch: Arch, tokenizer: Tokenizer) -> bool:
    backend = tokenizer.backend
    ids = {"bos": backend.bos_token_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    ids["unk"] = backend.unk_token_id
    for name, number in ids.items():
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    if isinstance(backend.chat_template, str):
        writer.add_chat_template(backend.chat_template)
    described = json.loads(backend.backend_tokenizer.to_str())
    pre = pre_tokenizer_of(described)
    if pre is None:
        writer.add_string(HUGGINGFACE, json.dumps(described))
        return False
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens, kinds = _vocabulary(arch, backend, described)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = described["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    begins = backend.encode("", add_special_tokens=True)[:1] == [backend.bos_token_id]
    writer.add_add_bos_token(begins and backend.bos_token_id is not None)
    return True


def _vocabulary(arch: Arch, backend: Any, described: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The token of each row of the embedding and its kind; rows without one are unused."""
    names = {number: token for token, number in backend.get_vocab().items()}
    added = {row["id"]: row["special"] for row in described["added_tokens"]}
    tokens, kinds = [], []
    for number in range(arch.vocab_size):
        tokens.append(names.get(number, f"[PAD{number}]"))
        if number not in names:
            kinds.append(_UNUSED)
        elif number in added:
            kinds.append(_CONTROL if added[number] else _USER_DEFINED)
        else:
            kinds.append(_NORMAL)
    return tokens, kinds

"""Parameters from a GGUF file, dequantised on the host.

GGUF names its tensors and metadata in its own way, and stores the q and k
projections of the llama architecture with the rows of each head interleaved,
for a rotary embedding that turns neighbours (x_2i, x_2i+1). Hugging Face and we
turn the halves (x_i, x_{i + D/2}), so those rows are put back in order.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError, blame
from gccpo_jax.policy.arch import Arch, Llama3Rope
from gccpo_jax.policy.assemble import assemble, check_names
from gccpo_jax.policy.model import stretch
from gccpo_jax.policy.model_files import COPY_AGAIN, refuse_placeholder
from gccpo_jax.types import Params

_FAMILIES = ("llama", "qwen2", "qwen3")
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_LLAMA3_CONTEXT = 8192  # of Llama 3, before Llama 3.1 stretched it
_NAMES = {
    "model.embed_tokens.": "token_embd.",
    "model.norm.": "output_norm.",
    "lm_head.": "output.",
    "input_layernorm.": "attn_norm.",
    "post_attention_layernorm.": "ffn_norm.",
    "mlp.gate_proj.": "ffn_gate.",
    "mlp.up_proj.": "ffn_up.",
    "mlp.down_proj.": "ffn_down.",
    "self_attn.q_proj.": "attn_q.",
    "self_attn.k_proj.": "attn_k.",
    "self_attn.v_proj.": "attn_v.",
    "self_attn.o_proj.": "attn_output.",
    "self_attn.q_norm.": "attn_q_norm.",
    "self_attn.k_norm.": "attn_k_norm.",
}


def load_gguf(
    path: pathlib.Path,
    dtype: str | None = None,
    shardings: Callable[[Arch], Any] | None = None,
) -> tuple[Arch, Params]:
    """Loads a `.gguf` file of the architectures llama (also Mistral, SmolLM2), qwen2, qwen3.

    Args:
      path: the file.
      dtype: "float32" (default) or "bfloat16".
      shardings: from the shape to where each array goes, as in `weights.load`.

    Raises:
      UserError: the package `gguf` is not installed, the file is damaged, or the
        architecture or one of its features is not supported.
    """
    reader, tensors = _open(path)
    arch = _arch_of(path, reader, tensors, dtype)
    check_names(path, arch, {*tensors} - {"rope_freqs.weight"}, gguf_name)

    def read(source: str) -> np.ndarray:
        with blame(path, COPY_AGAIN):
            tensor = _dequantise(tensors[gguf_name(source)])
            if arch.family != "llama" or not re.search(r"self_attn\.[qk]_proj", source):
                return tensor
            return unpermute(tensor, arch.heads if ".q_proj." in source else arch.kv_heads)

    return arch, assemble(arch, read, shardings(arch) if shardings else None)


def read_arch(path: pathlib.Path, dtype: str | None = None) -> Arch:
    """The shape of the model in a `.gguf` file; no weights are read. Raises as `load_gguf`."""
    return _arch_of(path, *_open(path), dtype)


def parts_of(path: pathlib.Path) -> list[pathlib.Path]:
    """All files of a model that llama.cpp split, from any one; the file itself if it is whole.

    The first one holds the metadata.

    Raises:
      UserError: a part is missing.
    """
    match = _PART.fullmatch(path.name)
    if match is None:
        return [path]
    stem, count = match["stem"], match["count"]
    parts = [path.with_name(f"{stem}-{n:05}-of-{count}.gguf") for n in range(1, int(count) + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing or not parts:
        raise UserError(f"{path}: part {(missing or ['1'])[0]} of the model is missing; copy it")
    return parts


def _open(path: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """The reader of the metadata, and the tensors of all parts by name."""
    parts = parts_of(path)
    readers = [open_gguf(part) for part in parts]
    told = readers[0].get_field("split.count")
    with blame(path, COPY_AGAIN):
        count = 1 if told is None else max(1, int(told.contents()))
    if count != len(parts):
        raise UserError(
            f"{path}: one of {count} parts of a model; give them their names of llama.cpp "
            f"(NAME-00001-of-{count:05}.gguf), in one folder"
        )
    tensors: dict[str, Any] = {}
    for part, reader in zip(parts, readers, strict=True):
        for tensor in reader.tensors:
            if tensor.name in tensors:
                raise UserError(f"{part}: {tensor.name} is in another part too; {COPY_AGAIN}")
            tensors[tensor.name] = tensor
    return readers[0], tensors


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows [heads * D, ...] from neighbours (x_2i, x_2i+1) to halves (x_i, x_{i + D/2})."""
    split = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.swapaxes(split, 1, 2).reshape(rows.shape)


def open_gguf(path: pathlib.Path) -> Any:
    """A `gguf.GGUFReader`.

    Raises:
      UserError: the package is missing, or the file is damaged.
    """
    try:
        import gguf
    except ImportError:
        raise UserError(
            f"{path}: reading GGUF needs the package gguf; run pip install 'gccpo-jax[smollm2]'"
        ) from None

    class Reader(gguf.GGUFReader):
        """Of what the header says that the file holds, nothing beyond its end."""

        def _get(self, offset: int, dtype: Any, count: int = 1, *rest: Any, **named: Any) -> Any:
            found = super()._get(offset, dtype, count, *rest, **named)
            if len(found) < count:  # an array of 2**60 numbers would be looked for one by one
                raise ValueError(f"{count} numbers at byte {offset} are not there")
            return found

    refuse_placeholder(path)
    with blame(path, COPY_AGAIN):
        return Reader(path)


def _metadata(path: pathlib.Path, reader: Any, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    if field is not None:
        return field.contents()
    if default is None:
        raise UserError(f"{path}: no metadata {key}; is it a language model?")
    return default


def _arch_of(path: pathlib.Path, reader: Any, tensors: dict[str, Any], dtype: str | None) -> Arch:
    with blame(path, COPY_AGAIN):
        return dataclasses.replace(_arch(path, reader, tensors), dtype=dtype or "float32")


def _arch(path: pathlib.Path, reader: Any, tensors: dict[str, Any]) -> Arch:
    family = _metadata(path, reader, "general.architecture")
    if family not in _FAMILIES:
        supported = ", ".join(_FAMILIES)
        raise UserError(f"{path}: architecture {family!r} is not supported; supported: {supported}")

    def get(key: str, default: Any = None) -> Any:
        return _metadata(path, reader, f"{family}.{key}", default)

    width, heads = get("embedding_length"), get("attention.head_count")
    head_dim = get("attention.key_length", width // heads)
    _refuse(path, reader, family, head_dim)
    theta = float(get("rope.freq_base", 10000.0))
    return Arch(
        vocab_size=int(tensors["token_embd.weight"].shape[-1]),
        width=width,
        depth=get("block_count"),
        heads=heads,
        kv_heads=get("attention.head_count_kv", heads),
        head_dim=head_dim,
        mlp_width=get("feed_forward_length"),
        rope_theta=theta,
        rope_scaling=_scaling(path, tensors.get("rope_freqs.weight"), theta, head_dim),
        norm_eps=_shortest(get("attention.layer_norm_rms_epsilon")),
        tied="output.weight" not in tensors,
        qkv_bias="blk.0.attn_q.bias" in tensors,
        out_bias="blk.0.attn_output.bias" in tensors,
        qk_norm="blk.0.attn_q_norm.weight" in tensors,
        max_positions=get("context_length"),
        family=family,
    )


def _shortest(value: float) -> float:
    """The decimal that was stored as float32: 1e-5, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _refuse(path: pathlib.Path, reader: Any, family: str, head_dim: int) -> None:
    """Refuses metadata that asks for something else than the forward pass does.

    Under `rope.` and `attention.` that is any key that is not read here. As llama.cpp has it:
    a scaling without a type is linear, its factor has an old name, and 0 or 1 is none.
    """
    read = ("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon")
    read += ("rope.freq_base", "rope.scaling.original_context_length", "rope.scaling.finetuned")
    sizes = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    neutral: dict[str, tuple[Any, ...]] = dict.fromkeys(sizes, (head_dim,))
    neutral |= dict.fromkeys(("rope.scaling.factor", "rope.scale_linear"), (0, 1))
    neutral |= dict.fromkeys(("expert_count", "attention.sliding_window"), (0,))
    neutral |= {"rope.scaling.type": ("none", "linear"), "attention.causal": (True,)}
    neutral |= dict.fromkeys(("logit_scale", "residual_scale", "embedding_scale"), (0, 1))
    for full, field in reader.fields.items():
        key = full.removeprefix(f"{family}.")
        watched = key in neutral or key.startswith(("rope.", "attention."))
        if key == full or key in read or not watched:
            continue
        value, supported = field.contents(), neutral.get(key, ())
        if value not in supported:
            expected = " or ".join(map(repr, supported)) or "none"
            raise UserError(f"{path}: {key}={value!r} is not supported; supported: {expected}")


def _scaling(path: pathlib.Path, tensor: Any, theta: float, head_dim: int) -> Llama3Rope | None:
    """Llama 3's scaling, which GGUF stores as the divisor of every frequency."""
    if tensor is None:
        return None
    divisors = _dequantise(tensor)
    rope = Llama3Rope(round(float(divisors.max())), 1.0, 4.0, _LLAMA3_CONTEXT)
    frequencies = theta ** -(np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
    if not np.allclose(frequencies / np.asarray(stretch(frequencies, rope)), divisors, rtol=1e-3):
        raise UserError(f"{path}: rope_freqs.weight is not Llama 3's scaling; load safetensors")
    return rope


def _dequantise(tensor: Any) -> np.ndarray:
    import gguf

    return gguf.dequantize(tensor.data, tensor.tensor_type)


def gguf_name(source: str) -> str:
    """How GGUF calls a tensor of a Hugging Face checkpoint."""
    name = re.sub(r"^model\.layers\.(\d+)\.", r"blk.\1.", source)
    for theirs, ours in _NAMES.items():
        name = name.replace(theirs, ours)
    return name

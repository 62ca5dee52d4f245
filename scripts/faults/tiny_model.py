"""A tiny random model in a folder, and the ways in which its files are changed."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy

from gccpo_jax.policy import model, weights
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.tokenizer import load_tokenizer

ROWS = 288
ARCH = Arch(ROWS, width=16, depth=2, heads=2, kv_heads=2, head_dim=8, mlp_width=24, family="llama")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WEIGHTS, CONFIG = "model.safetensors", "config.json"
INDEX = "model.safetensors.index.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 12\n"

Tensors = dict[str, np.ndarray]


def params_of(arch: Arch) -> dict[str, Any]:
    """Random parameters, the same each time."""
    rng = np.random.default_rng(0)
    shapes = {name: leaf.shape for name, leaf in model.layout(arch).items()}
    return model.nest({name: rng.normal(size=s).astype("f") for name, s in shapes.items()})


def make(folder: pathlib.Path) -> pathlib.Path:
    """The whole model: config, weights, byte-level tokenizer with a chat template."""
    write_tokenizer(folder.with_name("tokenizer"))
    tokenizer = load_tokenizer(folder.with_name("tokenizer"))
    return weights.save(folder, ARCH, params_of(ARCH), tokenizer)


def write_tokenizer(folder: pathlib.Path) -> None:
    """A byte-level BPE of three merges, as `tokenizer.json` and its config."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    folder.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("1", "2")]
    pieces = [*SPECIAL, *letters, *("".join(merge) for merge in merges)]
    tokenizer = tokenizers.Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": SPECIAL[2], "pad_token": SPECIAL[0], "chat_template": CHATML}
    put(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **config})


def put(folder: pathlib.Path, name: str, content: Any) -> None:
    """Writes a file: bytes and text as they are, anything else as JSON."""
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")


def fields(folder: pathlib.Path, name: str, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Changes fields of a JSON file."""
    old = json.loads((folder / name).read_text(encoding="utf-8"))
    put(folder, name, {k: v for k, v in (old | changes).items() if k not in drop})


def cut(folder: pathlib.Path, name: str) -> None:
    """Keeps the first half of a file."""
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


def tensors_of(folder: pathlib.Path) -> Tensors:
    return safetensors.numpy.load_file(folder / WEIGHTS)


def save(folder: pathlib.Path, name: str, tensors: Tensors) -> None:
    safetensors.numpy.save_file(tensors, folder / name)


def edit(folder: pathlib.Path, change: Callable[[Tensors], Any]) -> None:
    """Changes the tensors: in place, or by those that `change` returns."""
    tensors = tensors_of(folder)
    save(folder, WEIGHTS, change(tensors) or tensors)


def rename(folder: pathlib.Path, new: Callable[[str], str]) -> None:
    """Gives each tensor another name."""
    edit(folder, lambda tensors: {new(name): tensor for name, tensor in tensors.items()})


def stored_as(folder: pathlib.Path, kind: str, size: int) -> None:
    """The first matrix with another type in the header, of `size` bytes a number."""
    data = (folder / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    row = header["model.layers.0.mlp.up_proj.weight"]
    row |= {"dtype": kind, "shape": [row["shape"][0], row["shape"][1] * 4 // size]}
    text = json.dumps(header).encode()
    put(folder, WEIGHTS, len(text).to_bytes(8, "little") + text + data[end:])


def shards(folder: pathlib.Path, names: list[str], index: bool) -> list[str]:
    """Spreads the tensors over files, with or without their index; the names of the tensors."""
    tensors = tensors_of(folder)
    (folder / WEIGHTS).unlink()
    owner = {tensor: names[i % len(names)] for i, tensor in enumerate(sorted(tensors))}
    for name in names:
        save(folder, name, {t: x for t, x in tensors.items() if owner[t] == name})
    if index:
        put(folder, INDEX, {"weight_map": owner})
    return list(owner)


def metaspace(folder: pathlib.Path, normalizer: Any) -> None:
    """A tokenizer of the Llama 2 kind, with bytes for what it does not know."""
    import tokenizers
    from tokenizers import decoders, models, normalizers

    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abc7."]
    bpe = models.BPE({p: i for i, p in enumerate(pieces)}, [], byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizer, normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))


def gguf_files(folder: pathlib.Path, parts: int = 1, **metadata: Any) -> pathlib.Path:
    """The model as GGUF, in so many files named as llama.cpp names them; the first of them.

    `metadata`: more fields, with `__` for a dot; None leaves a field out.
    """
    import gguf

    from gccpo_jax.policy.gguf_weights import gguf_name

    tensors = list(gguf_tensors().items())
    data = _metadata() | {key.replace("__", "."): value for key, value in metadata.items()}
    names = [f"m-{n + 1:05}-of-{parts:05}.gguf" if parts > 1 else "m.gguf" for n in range(parts)]
    for number, name in enumerate(names):
        writer = gguf.GGUFWriter(folder / name, "llama")
        split = {"split.no": number, "split.count": parts} if parts > 1 else {}
        for key, value in ((data if number == 0 else {}) | split).items():
            if value is None:
                continue
            kind = gguf.GGUFValueType.get_type(value)
            inner = gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
            writer.add_key_value(key, value, kind, inner)
        for source, tensor in tensors[number::parts]:
            writer.add_tensor(gguf_name(source), tensor)
        for part in ("header", "kv_data", "tensors"):
            getattr(writer, f"write_{part}_to_file")()
        writer.close()
    return folder / names[0]


def gguf_tensors() -> Tensors:
    """The tensors with the rows of q and k as llama.cpp has them."""

    def turned(name: str, tensor: np.ndarray) -> np.ndarray:
        if "q_proj" not in name and "k_proj" not in name:
            return tensor
        split = tensor.reshape(ARCH.heads, 2, -1, tensor.shape[1])
        return np.ascontiguousarray(np.swapaxes(split, 1, 2)).reshape(tensor.shape)

    return {
        name: turned(name, x) for name, x in weights.to_hf_tensors(ARCH, params_of(ARCH)).items()
    }


def _metadata() -> dict[str, Any]:
    spec = {"context_length": 2048, "embedding_length": 16, "block_count": 2}
    spec |= {"feed_forward_length": 24, "attention.head_count": 2, "attention.key_length": 8}
    spec |= {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0}
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*SPECIAL, *sorted(ByteLevel.alphabet()), "he"]
    tokens += [f"<unused{n}>" for n in range(ROWS - len(tokens))]
    return {f"llama.{key}": value for key, value in spec.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.chat_template": CHATML,
    }

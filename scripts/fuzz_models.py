"""Model files that lie: directories of safetensors, and GGUF files."""

from __future__ import annotations

import functools
import json
import pathlib
import tempfile
from typing import Any

import fuzz_inputs as make
import numpy as np
from fuzz_inputs import Run, Target

GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "qwen2"
METADATA: dict[str, Any] = {
    **{"qwen2.context_length": 4096, "qwen2.embedding_length": 32, "qwen2.block_count": 2},
    **{"qwen2.feed_forward_length": 48, "qwen2.attention.head_count": 4},
    **{"qwen2.attention.head_count_kv": 2, "qwen2.attention.key_length": 8},
    **{"qwen2.attention.layer_norm_rms_epsilon": 1e-6, "qwen2.rope.freq_base": 10000.0},
    **{"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2"},
    "tokenizer.ggml.tokens": ["a", "b", "ab", "\u0120", "<|im_start|>", "<|im_end|>", "<|x|>"],
    "tokenizer.ggml.token_type": [1, 1, 1, 1, 3, 3, 4],
    "tokenizer.ggml.merges": ["a b"],
    **{"tokenizer.ggml.eos_token_id": 5, "tokenizer.ggml.bos_token_id": 4},
    "tokenizer.chat_template": "{{ messages[0]['content'] }}",
}


def _safetensors() -> Target:
    data = (GOLDEN / "model.safetensors").read_bytes()
    config = json.loads((GOLDEN / "config.json").read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")

    def lies(rng: np.random.Generator) -> bytes:
        """The header is valid JSON, but not true."""
        tensors = json.loads(data[8:header])
        for _ in range(make.size(rng, 4)):
            row = tensors[make.pick(rng, sorted(set(tensors) - {"__metadata__"}))]
            change = int(rng.integers(3))
            if change == 0:
                row["shape"] = [make.pick(rng, (0, 1, -1, 2**32, 2**63, 10**30, 8))] * int(
                    rng.integers(5)
                )
            elif change == 1:
                row["dtype"] = make.pick(rng, ("F64", "I64", "BF16", "F8_E4M3", "BOOL", "U16", "x"))
            else:
                row["data_offsets"] = [make.pick(rng, (0, 64, -1, 2**63)), len(data) - header]
        text = json.dumps(tensors).encode()
        length = make.pick(rng, (len(text), len(text), 0, 2**40, 2**64 - 1))
        return int(length).to_bytes(8, "little") + text + data[header:]

    def one(rng: np.random.Generator) -> dict[str, bytes]:
        fields = dict(config)
        for _ in range(int(rng.integers(3))):
            fields[make.pick(rng, sorted(config))] = make.value(rng)
        text = json.dumps(fields).encode("utf-8", "surrogatepass")
        if rng.random() < 0.2:
            text = make.mutated(rng, text, (b"\xff", b"\x00", b"[" * 99_999, b"9" * 5000, b"null"))
        weights = lies(rng) if rng.random() < 0.4 else make.damaged(rng, data, header)
        files = {"config.json": text, "model.safetensors": weights}
        if rng.random() < 0.3:
            files["model.safetensors"] = data
        if rng.random() < 0.2:
            table = {"weight_map": make.value(rng)} if rng.random() < 0.7 else make.value(rng)
            files["model.safetensors.index.json"] = json.dumps(table).encode("utf-8", "replace")
        return files

    def open_weights(folder: pathlib.Path) -> Run:
        from gccpo_jax.policy import weights

        return lambda _: weights.load(folder) and None

    return Target(750, one, open_weights, dict)


def _gguf() -> Target:
    def file(metadata: dict[str, Any]) -> bytes:
        import gguf

        from gccpo_jax.policy import weights
        from gccpo_jax.policy.gguf_weights import gguf_name

        arch, params = weights.load(GOLDEN)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "m.gguf"
            writer = gguf.GGUFWriter(path, "qwen2")
            for key, found in metadata.items():
                kind = gguf.GGUFValueType.get_type(found)
                inner = gguf.GGUFValueType.get_type(found[0]) if isinstance(found, list) else None
                writer.add_key_value(key, found, kind, inner)
            for name, tensor in weights.to_hf_tensors(arch, params).items():
                writer.add_tensor(gguf_name(name), tensor)
            for write in ("header", "kv_data", "tensors"):
                getattr(writer, f"write_{write}_to_file")()
            writer.close()
            return path.read_bytes()

    valid = functools.cache(lambda: file(METADATA))

    def one(rng: np.random.Generator) -> dict[str, bytes]:
        if rng.random() < 0.5:
            return {"m.gguf": make.damaged(rng, valid(), 1500)}
        metadata = dict(METADATA)
        for _ in range(make.size(rng, 4)):
            found = make.pick(
                rng, (0, 1, -1, 2**31 - 1, 7, 0.0, float("nan"), "x", [0], ["x"], True)
            )
            metadata[make.pick(rng, sorted(METADATA))] = found
        data = file(metadata)
        return {"m.gguf": make.flipped(rng, data, 1500) if rng.random() < 0.3 else data}

    def open_weights(folder: pathlib.Path) -> Run:
        from gccpo_jax.errors import UserError
        from gccpo_jax.policy import weights
        from gccpo_jax.policy.tokenizer import load_tokenizer

        def run(_: dict[str, bytes]) -> None:
            try:
                load_tokenizer(folder / "m.gguf").encode("a b")
            except UserError:
                pass
            weights.load(folder / "m.gguf")

        return run

    return Target(750, one, open_weights, dict)


SAFETENSORS, GGUF = _safetensors(), _gguf()

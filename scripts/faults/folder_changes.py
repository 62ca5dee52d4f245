"""Changes to the folder of a whole tiny model: files, fields, tensors, shards, GGUF."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tiny_model as m
from tiny_model import CONFIG, INDEX, WEIGHTS, edit, fields, put, rename

Make = Callable[[pathlib.Path], pathlib.Path | None]
HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"
UP = "model.layers.1.mlp.up_proj.weight"
TOKENIZER, GENERATION = "tokenizer_config.json", "generation_config.json"


def config(**changes: Any) -> Make:
    return lambda folder: fields(folder, CONFIG, **changes)


def rope(**scaling: Any) -> Make:
    return config(rope_scaling=scaling)


def without(name: str, field: str) -> Make:
    return lambda folder: fields(folder, name, (field,))


def file(name: str, content: Any) -> Make:
    return lambda folder: put(folder, name, content)


def remove(name: str) -> Make:
    return lambda folder: (folder / name).unlink()


def both(*changes: Make) -> Make:
    def make(folder: pathlib.Path) -> pathlib.Path | None:
        return [change(folder) for change in changes][-1]

    return make


def normalised(**normalizer: Any) -> Make:
    """With a normaliser in its tokenizer."""
    return lambda folder: fields(folder, "tokenizer.json", normalizer=normalizer)


def with_mark(folder: pathlib.Path) -> None:
    """Its config begins with a byte order mark."""
    put(folder, CONFIG, b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())


def other_head(folder: pathlib.Path) -> None:
    edit(folder, lambda tensors: tensors.update({HEAD: tensors[EMBED] + 1}))


def old_beside(folder: pathlib.Path) -> None:
    m.save(folder, "model_old.safetensors", {k: x + 1 for k, x in m.tensors_of(folder).items()})


def stale_index(folder: pathlib.Path) -> None:
    put(folder, INDEX, {"weight_map": {EMBED: "model-00001-of-00002.safetensors"}})


def sharded(index: bool, *gone: str) -> Make:
    def make(folder: pathlib.Path) -> None:
        m.shards(folder, [f"model-{n:05}-of-00002.safetensors" for n in (1, 2)], index)
        for name in gone:
            (folder / name).unlink()

    return make


def twice(folder: pathlib.Path) -> None:
    tensors = m.tensors_of(folder)
    sharded(True)(folder)
    for n in (1, 2):
        name = f"model-{n:05}-of-00002.safetensors"
        part = m.safetensors.numpy.load_file(folder / name)
        m.save(folder, name, part | {EMBED: tensors[EMBED]})


def moved(name: str) -> Make:
    return lambda folder: (folder / WEIGHTS).rename(folder / name) and None


def two_unnamed(folder: pathlib.Path) -> None:
    old_beside(folder)
    moved("weights.safetensors")(folder)


def adapter(folder: pathlib.Path) -> None:
    put(folder, "adapter_config.json", {"peft_type": "LORA"})
    m.save(folder, "adapter_model.safetensors", {"x.lora_A.weight": np.zeros((1, 1), "f")})


def dangling(folder: pathlib.Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("../../blobs/7c3f")


def hidden_beside(folder: pathlib.Path) -> None:
    moved("weights.safetensors")(folder)
    put(folder, "._weights.safetensors", b"\x00\x05\x16\x07")


def add(name: str) -> Make:
    return lambda folder: edit(folder, lambda tensors: tensors.update({name: np.zeros(3, "f")}))


def drop(name: str) -> Make:
    return lambda folder: edit(folder, lambda tensors: tensors.pop(name) is None or None)


def only_head(folder: pathlib.Path) -> None:
    rename(folder, lambda name: HEAD if name == EMBED else name)


def spread_over_two_prefixes(folder: pathlib.Path) -> None:
    edit(folder, lambda tensors: tensors.update({f"module.{UP}": tensors[UP]}))


def more_rows(folder: pathlib.Path) -> None:
    def grown(tensors: m.Tensors) -> None:
        tensors[EMBED] = np.concatenate([tensors[EMBED], np.zeros((5000, m.ARCH.width), "f")])

    edit(folder, grown)
    fields(folder, CONFIG, vocab_size=m.ROWS + 5000)


def fewer_rows(folder: pathlib.Path) -> None:
    edit(folder, lambda tensors: tensors.update({EMBED: tensors[EMBED][:200]}))
    fields(folder, CONFIG, vocab_size=200)


def template(text: Any) -> Make:
    return both(
        lambda folder: (folder / "chat_template.jinja").unlink(missing_ok=True),
        lambda folder: fields(folder, TOKENIZER, chat_template=text),
    )


def truncating(folder: pathlib.Path) -> None:
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    fields(folder, "tokenizer.json", truncation=cut)


def prefixed(by_name: bool) -> Make:
    def make(folder: pathlib.Path) -> None:
        from tokenizers import Regex, normalizers

        hidden = normalizers.Replace(Regex("^a"), "\u2581a")
        m.metaspace(folder, normalizers.Prepend("\u2581") if by_name else hidden)

    return make


def no_end(folder: pathlib.Path) -> None:
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    for old in ("<|endoftext|>", "<|im_end|>"):
        text = text.replace(old, old.replace("|", "!"))
    put(folder, "tokenizer.json", text)
    for name in (TOKENIZER, CONFIG, GENERATION):
        fields(folder, name, ("eos_token", "eos_token_id", "pad_token", "extra_special_tokens"))


def gguf(parts: int = 1, gone: int = 0, name: str = "", **metadata: Any) -> Make:
    def make(folder: pathlib.Path) -> pathlib.Path:
        first = m.gguf_files(folder, parts, **metadata)
        if gone:
            (folder / f"m-{gone:05}-of-{parts:05}.gguf").unlink()
        return first.rename(folder / name) if name else first

    return make


def last_part(folder: pathlib.Path) -> pathlib.Path:
    return gguf(parts=3)(folder).with_name("m-00003-of-00003.gguf")

"""Model folders with one thing wrong each, and what should come of loading them.

    python scripts/faults/model_folders.py [NAME ...]

Each row makes its folder from one whole tiny random model, loads tokenizer and weights and
renders a prompt. It either loads (what it should be the same as stands beside it, with a
word that must be in a warning) or is refused in one line that holds the words beside it.
Prints the table; exits with 1 where a row is otherwise.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import shutil
import sys
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np
import tiny_model as m
from folder_changes import (
    EMBED,
    GENERATION,
    HEAD,
    TOKENIZER,
    UP,
    Make,
    adapter,
    add,
    both,
    config,
    dangling,
    drop,
    fewer_rows,
    file,
    gguf,
    hidden_beside,
    last_part,
    more_rows,
    moved,
    no_end,
    normalised,
    old_beside,
    only_head,
    other_head,
    prefixed,
    remove,
    rope,
    sharded,
    spread_over_two_prefixes,
    stale_index,
    template,
    truncating,
    twice,
    two_unnamed,
    with_mark,
    without,
)
from tiny_model import CONFIG, INDEX, POINTER, WEIGHTS, edit, put, rename

from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.tokenizer import Tokenizer, check_vocab, load_tokenizer


@dataclasses.dataclass(frozen=True)
class Loads:
    """It loads, as the whole model or with another head; with a warning that holds `said`."""

    said: str = ""
    tied: bool = True
    stops: tuple[int, ...] = (0, 2)


class Case(NamedTuple):
    name: str
    make: Make  # changes the whole model's folder; what to load, if not the folder
    expected: Loads | tuple[str, ...]


YARN = {"rope_type": "yarn", "factor": 4.0}
MISTRAL = {"model_type": "mistral", "max_position_embeddings": 8192}
ROPE = "llama__rope__"
_FROM_CONFIG = [
    Case("no config", remove(CONFIG), ("no config.json",)),
    Case("config cut", lambda f: m.cut(f, CONFIG), (CONFIG, "not valid JSON")),
    Case("config a list", file(CONFIG, []), (CONFIG, "list instead of an object")),
    Case("config a pointer", file(CONFIG, POINTER), (CONFIG, "Git LFS pointer")),
    Case("config in UTF-16", file(CONFIG, "{}".encode("utf-16")), (CONFIG, "not valid JSON")),
    Case("config with a mark", with_mark, Loads()),
    Case("tied a text", config(tie_word_embeddings="false"), ("tie_word_embeddings='false'",)),
    Case("layers true", config(num_hidden_layers=True), ("depth=True",)),
    Case("base NaN", config(rope_theta=float("nan")), ("rope_theta=nan",)),
    Case("scores capped", config(attn_logit_softcapping=30.0), ("attn_logit_softcapping=30.0",)),
    Case("no model_type", without(CONFIG, "model_type"), ("model_type",)),
    Case("another family", config(model_type="gemma2"), ("model_type='gemma2'",)),
    Case("images too", config(model_type="llava", text_config={}), ("model_type='llava'",)),
    Case("no hidden_size", without(CONFIG, "hidden_size"), ("hidden_size",)),
    Case("more layers", config(num_hidden_layers=3), ("tensors are missing", "layers.2")),
    Case("fewer layers", config(num_hidden_layers=1), ("tensors are unknown", "layers.1")),
    Case("more rows", config(vocab_size=300), (EMBED, "(288, 16)", "(300, 16)")),
    Case("biases", config(attention_bias=True), ("missing", "bias")),
    Case("gelu", config(hidden_act="gelu"), ("hidden_act='gelu'",)),
    Case("swish is silu", config(hidden_act="swish"), Loads()),
    Case("float8 config", config(torch_dtype="float8_e4m3fn"), ("float8_e4m3fn",)),
    Case("quantised", config(quantization_config={"bits": 4}), ("quantization_config",)),
    Case("quantised by MLX", config(quantization={"bits": 4}), ("quantization=",)),
    Case("linear rope", rope(type="linear", factor=2.0), ("rope_type='linear'",)),
    Case("rope without type", rope(factor=4.0), ("rope_scaling.factor=4.0",)),
    Case("rope of factor 1", rope(rope_type="default", factor=1.0), Loads()),
    Case("two types", rope(type="yarn", rope_type="default", factor=4.0), ("'yarn'", "'default'")),
    Case(
        "yarn beside parameters",
        config(rope_scaling=YARN, rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
        ("rope_type='yarn'",),
    ),
    Case("two bases", config(rope_parameters={"rope_theta": 5e5}), ("rope_theta=500000.0",)),
    Case("base 0", config(rope_theta=0), ("rope_theta=0",)),
    Case("rope by layer", rope(full_attention=YARN), ("full_attention",)),
    Case("part turned", rope(partial_rotary_factor=0.5), ("partial_rotary_factor=0.5",)),
    Case("part turned outside", config(rotary_pct=0.5), ("rotary_pct=0.5",)),
    Case("heads of size 0", config(head_dim=0), ("head_dim=0",)),
    Case("short window", config(sliding_window=64, use_sliding_window=True), ("window=64",)),
    Case(
        "Mistral's window",
        both(config(**MISTRAL), without(CONFIG, "sliding_window")),
        ("sliding_window=4096",),
    ),
    Case(
        "Mistral's window off",
        config(**MISTRAL, sliding_window=64, use_sliding_window=False),
        ("sliding_window=64",),
    ),
    Case(
        "Mistral's heads",
        both(config(model_type="mistral"), without(CONFIG, "num_key_value_heads")),
        ("kv_heads=8",),
    ),
    Case(
        "Qwen3's heads",
        both(config(model_type="qwen3"), without(CONFIG, "head_dim")),
        ("q_norm",),
    ),
    Case("head of its own", other_head, Loads("not tied", tied=False)),
    Case("only its head", only_head, Loads()),
    Case("head repeated", lambda f: edit(f, lambda t: t.update({HEAD: t[EMBED]})), Loads()),
    Case("not tied, no head", config(tie_word_embeddings=False), ("missing", HEAD)),
]
_FROM_WEIGHTS = [
    Case("no weights", remove(WEIGHTS), ("no *.safetensors",)),
    Case("an old file beside", old_beside, Loads("model_old.safetensors")),
    Case("a stale index", stale_index, Loads()),
    Case("sharded", sharded(True), Loads()),
    Case(
        "a shard missing",
        sharded(True, "model-00002-of-00002.safetensors"),
        ("model-00002-of-00002.safetensors", "missing"),
    ),
    Case("shards, no index", sharded(False), Loads()),
    Case(
        "a shard missing, no index",
        sharded(False, "model-00001-of-00002.safetensors"),
        ("model-00001-of-00002.safetensors", "missing"),
    ),
    Case("index cut", both(sharded(True), lambda f: m.cut(f, INDEX)), (INDEX, "not valid JSON")),
    Case(
        "index to outside",
        both(sharded(True), file(INDEX, {"weight_map": {EMBED: "../x.safetensors"}})),
        (INDEX, "no weight_map of file names"),
    ),
    Case("a tensor twice", twice, ("twice", "model-00001-of", "model-00002-of")),
    Case("another name", moved("weights.safetensors"), Loads()),
    Case("a hidden file beside", hidden_beside, Loads()),
    Case("a link to nothing", dangling, (WEIGHTS, "blobs/7c3f", "download the model again")),
    Case(
        "weights a folder",
        both(remove(WEIGHTS), lambda f: (f / WEIGHTS).mkdir()),
        (WEIGHTS, "a folder"),
    ),
    Case("two other names", two_unnamed, ("model_old.safetensors", "weights.safetensors")),
    Case(
        "named in the config",
        both(old_beside, moved("w.safetensors"), config(transformers_weights="w.safetensors")),
        Loads("model_old.safetensors"),
    ),
    Case("named a number", config(transformers_weights=3), ("transformers_weights=3",)),
    Case("named outside", config(transformers_weights="../x.safetensors"), ("expected a file",)),
    Case("maker's file beside", file("consolidated.safetensors", POINTER), Loads()),
    Case("only maker's file", moved("consolidated.safetensors"), ("names of its maker",)),
    Case("an adapter beside", adapter, ("adapter_config.json", "merge")),
    Case("only an adapter", both(adapter, remove(WEIGHTS)), ("adapter_config.json", "merge")),
    Case("fp8", lambda f: m.stored_as(f, "F8_E4M3", 1), ("F8_E4M3", "quantised")),
    Case("int8", lambda f: m.stored_as(f, "I8", 1), ("I8", "quantised")),
    Case("float64", lambda f: edit(f, lambda t: {k: x.astype("d") for k, x in t.items()}), Loads()),
    Case("a pointer", file(WEIGHTS, POINTER), (WEIGHTS, "Git LFS pointer", "git lfs pull")),
    Case("a web page", file(WEIGHTS, "<!DOCTYPE html><html>"), (WEIGHTS, "web page")),
    Case("empty", file(WEIGHTS, ""), (WEIGHTS, "truncated or damaged")),
    Case("cut", lambda f: m.cut(f, WEIGHTS), (WEIGHTS, "truncated or damaged")),
    Case("a pickle", both(remove(WEIGHTS), file("pytorch_model.bin", "x")), ("pickle",)),
    Case("_orig_mod.", lambda f: rename(f, "_orig_mod.{}".format), Loads()),
    Case("module.", lambda f: rename(f, "module.{}".format), Loads()),
    Case("language_model.", lambda f: rename(f, "language_model.{}".format), Loads()),
    Case(
        "model.language_model.",
        lambda f: rename(f, lambda n: n.replace("model.", "model.language_model.", 1)),
        Loads(),
    ),
    Case("no prefix", lambda f: rename(f, lambda n: n.removeprefix("model.")), Loads()),
    Case(
        "wrapped inside",
        lambda f: rename(f, lambda n: n.replace("mlp.", "_checkpoint_wrapped_module.mlp.")),
        Loads(),
    ),
    Case("another prefix", lambda f: rename(f, "x.{}".format), ("tensors are missing",)),
    Case("two prefixes", spread_over_two_prefixes, ("twice", UP, f"module.{UP}")),
    Case("a vision tower", add("vision_tower.x.weight"), ("unknown", "vision_tower.x.weight")),
    Case("unmerged", add("model.layers.0.mlp.up_proj.lora_A.weight"), ("unknown", "lora_A")),
    Case("old frequencies", add("model.layers.0.self_attn.rotary_emb.inv_freq"), Loads()),
    Case("a tensor missing", drop(UP), ("1 tensors are missing", UP)),
    Case("turned", lambda f: edit(f, lambda t: t.update({UP: t[UP].T.copy()})), (UP, "shape")),
]
_FROM_TOKENIZER = [
    Case("no tokenizer", remove("tokenizer.json"), ("no tokenizer",)),
    Case(
        "only tokenizer.model",
        both(remove("tokenizer.json"), file("tokenizer.model", b"\n\x0e\n")),
        ("only a tokenizer.model", "tokenizer.json"),
    ),
    Case("tokenizer cut", lambda f: m.cut(f, "tokenizer.json"), ("cannot be read",)),
    Case("tokenizer a pointer", file("tokenizer.json", POINTER), ("Git LFS pointer",)),
    Case("its config cut", lambda f: m.cut(f, TOKENIZER), (TOKENIZER, "not valid JSON")),
    Case("its map a list", file("special_tokens_map.json", []), ("special_tokens_map.json",)),
    Case("generation cut", lambda f: m.cut(f, GENERATION), (GENERATION, "not valid JSON")),
    Case("end a text", file(GENERATION, {"eos_token_id": "</s>"}), ("eos_token_id", "</s>")),
    Case("end true", file(GENERATION, {"eos_token_id": True}), ("eos_token_id", "True")),
    Case("end in a list", file(GENERATION, {"eos_token_id": [2, None]}), ("eos_token_id",)),
    Case("end 99999", file(GENERATION, {"eos_token_id": 99999}), Loads("99999")),
    Case("end -1", file(GENERATION, {"eos_token_id": [-1, 7]}), Loads("-1", stops=(0, 2, 7))),
    Case("end a float", config(eos_token_id=2.0), (CONFIG, "2.0")),
    Case("end of another model", file(TOKENIZER, {"eos_token": "</s>"}), ("'</s>' is no token",)),
    Case("no end", no_end, ("no end-of-text token",)),
    Case("5000 rows more", more_rows, Loads("rows without a token")),
    Case("fewer rows than ids", fewer_rows, ("200 rows", "262 ids")),
    Case("it cuts", truncating, Loads()),
    Case("prefix space", prefixed(True), Loads(stops=(0, 2))),
    Case("prefix by expression", prefixed(False), ("'b' after 'a'",)),
    Case(
        "template refuses a system text",
        template("{{ raise_exception('no system role here') }}"),
        ("no system role here",),
    ),
    Case("template of bad syntax", template("{% for %}"), ("chat template", "Expected")),
    Case(
        "several templates",
        template([{"name": n, "template": "x"} for n in ("rag", "tools")]),
        ("'default'", "'rag', 'tools'"),
    ),
    Case("template with the clock", template("{{ strftime_now(f) }}"), ("cannot be fixed",)),
    Case("template without the question", template("hello"), ("leaves the question out", "abc 7")),
    Case("small letters", normalised(type="Lowercase"), ("'B\\n' as 'b\\n'", "normalizer")),
    Case(
        "ends cut off",
        normalised(type="Strip", strip_left=True, strip_right=True),
        ("'B\\n' as 'B'",),
    ),
    Case("letters of one kind", normalised(type="NFKC"), Loads()),
    Case("no template", template(None), ("no chat template",)),
]
_FROM_GGUF = [
    Case("gguf", gguf(), Loads()),
    Case("a folder of gguf", both(gguf(), remove(CONFIG)), ("m.gguf", "give that file")),
    Case("split", gguf(parts=3), Loads()),
    Case("split, its last part", last_part, Loads()),
    Case("a part missing", gguf(parts=3, gone=2), ("m-00002-of-00003.gguf", "missing")),
    Case("a part renamed", gguf(parts=2, name="x.gguf"), ("one of 2 parts", "00001-of-00002")),
    Case("gguf a pointer", lambda f: put(f, "m.gguf", POINTER) or f / "m.gguf", ("Git LFS",)),
    Case("factor", gguf(**{f"{ROPE}scaling__factor": 4.0}), ("scaling.factor=4.0",)),
    Case("factor 1", gguf(**{f"{ROPE}scaling__factor": 1.0}), Loads()),
    Case("its old name", gguf(**{f"{ROPE}scale_linear": 2.0}), ("scale_linear=2.0",)),
    Case("yarn", gguf(**{f"{ROPE}scaling__type": "yarn"}), ("scaling.type='yarn'",)),
    Case("linear, no factor", gguf(**{f"{ROPE}scaling__type": "linear"}), Loads()),
    Case("sections", gguf(**{f"{ROPE}dimension_sections": [2, 2]}), ("dimension_sections",)),
    Case("clamped", gguf(llama__attention__clamp_kqv=8.0), ("attention.clamp_kqv=8.0",)),
    Case("no pre", gguf(tokenizer__ggml__pre=None), Loads("tokenizer.ggml.pre")),
    Case("Llama 3", gguf(tokenizer__ggml__pre="llama-bpe"), Loads("add_bos_token")),
    Case(
        "begins with nothing",
        gguf(tokenizer__ggml__add_bos_token=True, tokenizer__ggml__bos_token_id=None),
        ("bos_token_id",),
    ),
    Case("gguf end -1", gguf(tokenizer__ggml__eos_token_id=-1), Loads()),
]
CASES = [*_FROM_CONFIG, *_FROM_WEIGHTS, *_FROM_TOKENIZER, *_FROM_GGUF]


def outcome(case: Case, whole: pathlib.Path, scratch: pathlib.Path) -> str:
    """Why the row is not as expected; "" where it is."""
    folder = pathlib.Path(shutil.copytree(whole, scratch / "model"))
    said = _Said()
    logging.getLogger("gccpo_jax").addHandler(said)
    try:
        path = case.make(folder) or folder
        found = _load(path)
    except UserError as error:
        found = str(error)
    finally:
        logging.getLogger("gccpo_jax").removeHandler(said)
        shutil.rmtree(folder)
    if isinstance(case.expected, Loads):
        return found if isinstance(found, str) else _differs(*found, case.expected, said.lines)
    if not isinstance(found, str):
        return "it loads"
    missing = [word for word in case.expected if word not in found]
    return f"{missing} is not said: {found}" if missing else ""


def _load(path: pathlib.Path) -> tuple[Arch, Any, Tokenizer]:
    tokenizer = load_tokenizer(path)
    arch, params = weights.load(path)
    check_vocab(arch, tokenizer)
    tokenizer.render("abc 7", "be brief")
    return arch, params, tokenizer


def _differs(
    arch: Arch, params: Any, tokenizer: Tokenizer, expected: Loads, lines: list[str]
) -> str:
    """In what a model that loaded is not as expected; warnings are part of it."""
    if arch.tied != expected.tied:
        return f"tied is {arch.tied}"
    for name, array in jax.tree_util.tree_leaves_with_path(m.params_of(m.ARCH)):
        loaded = np.asarray(_at(params, name))[: array.shape[0]]
        if not np.array_equal(loaded, array):
            return f"{jax.tree_util.keystr(name)} is another"
    pieces = ["a", " b", "\n7. c", " a "]
    ids = [i for piece in pieces for i in tokenizer.encode(piece)]
    if tokenizer.decode(ids) != "".join(pieces):
        return f"{pieces} are read as {tokenizer.decode(ids)!r}"
    if tokenizer.stop_ids != expected.stops:
        return f"answers end with {tokenizer.stop_ids}"
    if not any(expected.said in line for line in lines) if expected.said else lines:
        return f"warnings: {lines}"
    return ""


def _at(tree: Any, path: Any) -> Any:
    for key in path:
        tree = tree[key.key]
    return tree


class _Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main(names: list[str]) -> int:
    """Prints a line per row; 1 if one of them is not as expected."""
    chosen = [case for case in CASES if not names or case.name in names]
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        whole = m.make(pathlib.Path(scratch) / "whole")
        for case in chosen:
            why = outcome(case, whole, pathlib.Path(scratch))
            wrong += bool(why)
            print(f"{case.name:28} {why and f'WRONG: {why}' or 'as expected'}")
    print(f"{len(chosen)} folders, {wrong} not as expected")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A fast tokenizer from the metadata of a GGUF file.

GGUF stores the vocabulary and merges of a byte-level BPE, but the pre-tokenizer
only by name; the few that belong to our model families are written out here.
"""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

from gccpo_jax.errors import UserError, blame
from gccpo_jax.policy.gguf_weights import open_gguf, parts_of
from gccpo_jax.policy.model_files import COPY_AGAIN

HUGGINGFACE = "tokenizer.huggingface.json"
"""Key under which GGUF stores a whole `tokenizer.json`; read where there is nothing else."""

_log = logging.getLogger(__name__)
_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEFAULT = (
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)
"""The expressions that llama.cpp cuts by, one after the other, where a file names none."""

_ALIASES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}
_NAMED = ("gpt-2", "smollm", "llama-bpe", "qwen2")
_PRE_TOKENIZERS = (*_NAMED, "default", *_ALIASES)
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def load_gguf_tokenizer(path: pathlib.Path) -> Any:
    """A `transformers.PreTrainedTokenizerFast` with special tokens and chat template.

    Raises:
      UserError: the tokenizer is not a byte-level BPE of a known kind.
    """
    from transformers import PreTrainedTokenizerFast

    reader = open_gguf(parts_of(path)[0])
    with blame(path, COPY_AGAIN):
        if reader.get_field("tokenizer.ggml.model") is None and reader.get_field(HUGGINGFACE):
            data, whole = _described(reader)
        else:
            data = _metadata(path, reader)
            whole = _bpe(data)
        tokens, ids = data["tokens"], _special_ids(data)
        fast = PreTrainedTokenizerFast(
            tokenizer_object=whole,
            clean_up_tokenization_spaces=False,
            **{name: tokens[i] for name, i in ids.items()},
        )
        has_chatml = "<|im_start|>" in tokens and "<|im_end|>" in tokens
        fast.chat_template = data.get("chat_template") or (_CHATML if has_chatml else None)
        return fast


def _fields(reader: Any) -> dict[str, Any]:
    """The fields `tokenizer.ggml.*` and `tokenizer.chat_template`, by the last part of the name."""
    prefix = "tokenizer."
    fields = {k: f for k, f in reader.fields.items() if k.startswith(prefix)}
    return {k.split(".", 2 if ".ggml." in k else 1)[-1]: f.contents() for k, f in fields.items()}


def _described(reader: Any) -> tuple[dict[str, Any], Any]:
    """Fields and tokenizer of a file that holds a whole `tokenizer.json`."""
    import tokenizers

    data = _fields(reader)
    whole = tokenizers.Tokenizer.from_str(data[HUGGINGFACE.partition(".")[2]])
    tokens = [whole.id_to_token(number) for number in range(whole.get_vocab_size())]
    return data | {"tokens": tokens}, whole


def pre_tokenizer_of(described: dict[str, Any]) -> str | None:
    """What llama.cpp calls the way in which a `tokenizer.json` cuts text; None: it has no name.

    Only byte-level BPEs have one that is known here.
    """
    if described["model"]["type"] != "BPE":
        return None
    cut, changed = described["pre_tokenizer"], described["normalizer"]
    for name in _NAMED:
        normalizer = {"type": "NFC"} if name == "qwen2" else None
        if changed == normalizer and _alike(cut) == _alike(json.loads(_state(name))):
            return name
    return None


def _state(name: str) -> bytes:
    return _pre_tokenizer(name).__getstate__()


def _alike(part: Any) -> Any:
    """A part of a `tokenizer.json` without what changes no token."""
    if isinstance(part, dict):
        return {key: _alike(x) for key, x in part.items() if key != "trim_offsets"}
    if isinstance(part, list):
        return [_alike(x) for x in part]
    return part.replace("{1,1}", "") if isinstance(part, str) else part


def _metadata(path: pathlib.Path, reader: Any) -> dict[str, Any]:
    """The fields of a byte-level BPE, completed as llama.cpp does it."""
    data = _fields(reader)
    kind, pre = data.get("model"), data.get("pre")
    if not pre:
        pre = "default"
        _log.warning(
            "%s: no tokenizer.ggml.pre, so text is cut as llama.cpp does by default, perhaps not "
            "as the model has learned; a newer conversion says how",
            path,
        )
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise UserError(
            f"{path}: tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported; supported: "
            f"gpt2 with {', '.join(_PRE_TOKENIZERS)}; take the model's safetensors directory"
        )
    data["pre"] = _ALIASES.get(pre, pre)
    if "add_bos_token" not in data:
        data["add_bos_token"] = data["pre"] == "llama-bpe"  # as llama.cpp has it
        if data["add_bos_token"]:
            _log.warning(
                "%s: no tokenizer.ggml.add_bos_token; plain prompts begin with the begin token, as "
                "in llama.cpp",
                path,
            )
    if data["add_bos_token"] and data.get("bos_token_id") is None:
        raise UserError(
            f"{path}: prompts begin with a token that tokenizer.ggml.bos_token_id does not name; "
            "convert the model anew"
        )
    return data


def _special_ids(data: dict[str, Any]) -> dict[str, int]:
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: data.get(f"{field}_token_id") for name, field in named.items()}
    return {name: i for name, i in ids.items() if i is not None and 0 <= i < len(data["tokens"])}


def _bpe(data: dict[str, Any]) -> Any:
    import tokenizers

    pre = data["pre"]
    vocabulary = {token: i for i, token in enumerate(data["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in data["merges"]]
    bpe = tokenizers.models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe")
    tokenizer = tokenizers.Tokenizer(bpe)
    if pre == "qwen2":
        tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    _add_special(tokenizer, data)
    if data["add_bos_token"]:
        tokenizer.post_processor = _prepend(data["tokens"], data["bos_token_id"])
    return tokenizer


def _pre_tokenizer(name: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if name == "default":
        cuts = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in _DEFAULT]
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*cuts, level])
    words = Regex(_WORDS % {"llama-bpe": 3, "qwen2": 1}[name])
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), level])


def _add_special(tokenizer: Any, data: dict[str, Any]) -> None:
    from tokenizers import AddedToken

    kinds = list(zip(data["tokens"], data.get("token_type", []), strict=False))
    control = [AddedToken(t, normalized=False, special=True) for t, k in kinds if k == _CONTROL]
    defined = [AddedToken(t, normalized=False) for t, k in kinds if k == _USER_DEFINED]
    tokenizer.add_special_tokens(control)
    tokenizer.add_tokens(defined)


def _prepend(tokens: list[str], bos: int) -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(f"{tokens[bos]} $A", special_tokens=[(tokens[bos], bos)])

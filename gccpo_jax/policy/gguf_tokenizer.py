"""A fast tokenizer from the metadata of a GGUF file.

GGUF stores the vocabulary and merges of a byte-level BPE, but the pre-tokenizer
only by name; the few that belong to our model families are written out here.
"""

from __future__ import annotations

import pathlib
from typing import Any

from gccpo_jax.errors import UserError, blame
from gccpo_jax.policy.assemble import COPY_AGAIN
from gccpo_jax.policy.gguf_weights import open_gguf

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_TOKENIZERS = ("gpt-2", "smollm", "llama-bpe", "qwen2")
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

    reader = open_gguf(path)
    with blame(path, COPY_AGAIN):
        data = _metadata(path, reader)
        tokens, ids = data["tokens"], _special_ids(data)
        fast = PreTrainedTokenizerFast(
            tokenizer_object=_bpe(data),
            clean_up_tokenization_spaces=False,
            **{name: tokens[i] for name, i in ids.items()},
        )
        has_chatml = "<|im_start|>" in tokens and "<|im_end|>" in tokens
        fast.chat_template = data.get("chat_template") or (_CHATML if has_chatml else None)
        return fast


def _metadata(path: pathlib.Path, reader: Any) -> dict[str, Any]:
    """The fields `tokenizer.ggml.*` and `tokenizer.chat_template`, by the last part of the name."""
    prefix = "tokenizer."
    fields = {k: f for k, f in reader.fields.items() if k.startswith(prefix)}
    data = {k.split(".", 2 if ".ggml." in k else 1)[-1]: f.contents() for k, f in fields.items()}
    kind, pre = data.get("model"), data.get("pre", "gpt-2")
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise UserError(
            f"{path}: tokenizer {kind!r} with pre-tokenizer {pre!r} is not supported; supported: "
            f"gpt2 with {', '.join(_PRE_TOKENIZERS)}; take the model's safetensors directory"
        )
    return data


def _special_ids(data: dict[str, Any]) -> dict[str, int]:
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: data.get(f"{field}_token_id") for name, field in named.items()}
    return {name: i for name, i in ids.items() if i is not None and i < len(data["tokens"])}


def _bpe(data: dict[str, Any]) -> Any:
    import tokenizers

    pre = data.get("pre", "gpt-2")
    vocabulary = {token: i for i, token in enumerate(data["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in data["merges"]]
    bpe = tokenizers.models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe")
    tokenizer = tokenizers.Tokenizer(bpe)
    if pre == "qwen2":
        tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    _add_special(tokenizer, data)
    if data.get("add_bos_token"):
        tokenizer.post_processor = _prepend(data["tokens"], data["bos_token_id"])
    return tokenizer


def _pre_tokenizer(name: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
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

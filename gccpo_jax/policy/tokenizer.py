"""Text to token ids and back: a thin, immutable view of a fast Hugging Face tokenizer.

`transformers` is imported when a tokenizer is loaded, not with the package.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.chat_template import PLAIN, Template
from gccpo_jax.policy.locate import locate
from gccpo_jax.policy.model_files import check_jsons, read_json, refuse_placeholder

_log = logging.getLogger(__name__)
_STOP = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>")
_PADDING_ROWS = 1024  # models round their vocabulary up; a larger gap is said
_FILES = ("config.json", "generation_config.json", "tokenizer_config.json")
_FILES += ("special_tokens_map.json", "added_tokens.json")
_PROBES = (("a", "b"), ("7", " 7"), ("\n", "2. a"), (" a ", "b c"))


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """What the package asks of a tokenizer. Compared and hashed by identity."""

    backend: Any  # a `transformers.PreTrainedTokenizerFast`
    stop_ids: tuple[int, ...]  # ids that end an answer, ascending; never empty
    template: Template = Template()  # what chat templates are rendered with

    @property
    def vocab_size(self) -> int:
        """Largest id plus one, added tokens included."""
        return len(self._pieces)

    @property
    def eos_id(self) -> int:
        """The id that ends a text."""
        eos = self.backend.eos_token_id
        return self.stop_ids[0] if eos is None else eos

    @property
    def pad_id(self) -> int:
        """The id to pad with; that of the end of text where the tokenizer names none."""
        pad = self.backend.pad_token_id
        return self.eos_id if pad is None else pad

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as it goes on from other text: nothing is put before or after it.

        So `decode(encode(a) + encode(b))` is `a + b`, also where the tokenizer puts a space
        before the text that it is given.
        """
        return self._continuing.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of `ids`, every space as it is. Ids outside the vocabulary vanish."""
        ids = ids.tolist() if isinstance(ids, np.ndarray) else [int(i) for i in ids]
        return self._continuing.decode(ids, skip_special_tokens=skip_special)

    @functools.cached_property
    def _continuing(self) -> Any:
        return continuing(self.backend.backend_tokenizer)

    def render(self, prompt: str, system: str | None = None, chat: bool = True) -> list[int]:
        """Ids of a question, ready for the model to go on.

        Args:
          prompt: the user's text.
          system: the system's text; None or empty leaves it to the template.
          chat: apply the chat template and open the answer; otherwise the plain text
            (system, blank line, prompt), with the begin token if the model is used to one.

        Raises:
          UserError: `chat` without a chat template.
        """
        if not chat:
            return self._plain(f"{system}\n\n{prompt}" if system else prompt)
        if not self.backend.chat_template:
            raise UserError(f"this tokenizer has no chat template; use {PLAIN}")
        return self._begin(self.template.render(self.backend, prompt, system))

    def _begin(self, text: str) -> list[int]:
        """Ids of `text` at the very beginning, special tokens in it included."""
        return self.backend.encode(text, add_special_tokens=False)

    def _plain(self, text: str) -> list[int]:
        ids = self._begin(text)
        bos = self.backend.bos_token_id
        uses_bos = bos is not None and self.backend.encode("", add_special_tokens=True)[:1] == [bos]
        return [bos, *ids] if uses_bos else ids

    def spare_rows(self, rows: int) -> tuple[tuple[int, int], ...]:
        """Ranges [first, end) of a model's `rows` for which the tokenizer has no token."""
        ids = sorted({*self.backend.get_vocab().values(), rows})
        ends = [-1, *ids]
        gaps = ((a + 1, b) for a, b in itertools.pairwise(ends) if b - a > 1)
        return tuple(gaps)

    def ids_where(self, holds: Callable[[str], bool], size: int | None = None) -> np.ndarray:
        """bool [size], True on ids whose text alone satisfies `holds`.

        Args:
          holds: says it of a text, such as `lambda piece: "\n" in piece`.
          size: length of the result, `arch.vocab_size` for a mask over logits;
            at least and by default `vocab_size`. Ids beyond the tokenizer's are False.
        """
        found = np.zeros(size or self.vocab_size, bool)
        found[: self.vocab_size] = [holds(piece) for piece in self._pieces]
        return found

    @functools.cached_property
    def _pieces(self) -> list[str]:
        size = max(self.backend.get_vocab().values()) + 1
        singles = [[i] for i in range(size)]
        return self._continuing.decode_batch(singles, skip_special_tokens=False)

    @functools.cached_property
    def characters(self) -> np.ndarray:
        """Characters [vocab_size] of each id's text alone, 0 of special ones.

        About what it adds to a text: a letter of several ids has more, a cleaned space less.
        """
        singles = [[i] for i in range(self.vocab_size)]
        pieces = self._continuing.decode_batch(singles, skip_special_tokens=True)
        return np.array([len(piece) for piece in pieces])

    def special_ids(self) -> dict[str, Any]:
        """The token ids that `config.json` and `generation_config.json` name."""
        stops = list(self.stop_ids)
        return {
            "bos_token_id": self.backend.bos_token_id,
            "eos_token_id": stops[0] if len(stops) == 1 else stops,
            "pad_token_id": self.pad_id,
        }

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes the files that `load_tokenizer` and `transformers.AutoTokenizer` read."""
        self.backend.save_pretrained(str(directory))
        file = pathlib.Path(directory) / "tokenizer_config.json"
        # The one class name under which every version of transformers obeys tokenizer.json.
        config = read_json(file) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(
    path_or_hub_id: str | pathlib.Path, template: Template | None = None
) -> Tokenizer:
    """Loads the tokenizer of whatever `gccpo_jax.locate.locate` understands.

    Args:
      path_or_hub_id: where it is.
      template: date and arguments of the chat template; the defaults if None.

    Raises:
      UserError: there is none, it is not a fast one, it names no token that ends a text, it
        changes text that goes on from other text, or it drops capitals or the ends of lines.
    """
    path = locate(path_or_hub_id)
    # Without PyTorch transformers would say so on every run; its tokenizers need none.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if path.suffix == ".gguf":
        from gccpo_jax.policy.gguf_tokenizer import load_gguf_tokenizer

        backend = load_gguf_tokenizer(path)
    else:
        backend = _load_directory(path)
    backend.backend_tokenizer.no_truncation()  # a tokenizer.json may ask for either
    backend.backend_tokenizer.no_padding()
    stops = _stop_ids(path, backend)
    if not stops:
        raise UserError(f"{path}: the tokenizer names no end-of-text token; set eos_token")
    tokenizer = Tokenizer(backend, stops, template or Template())
    _check_whole(path, backend)
    _check_continuing(path, tokenizer)
    return tokenizer


def continuing(backend: Any) -> Any:
    """The same `tokenizers.Tokenizer` for text in the middle of other text.

    Llama 2, Mistral and their kin put a space before any text that they are given, and take
    one away when they decode. Neither is so in what a policy writes.
    """
    parts = ("normalizer", "pre_tokenizer", "decoder")
    found = {part: getattr(backend, part) for part in parts}
    old = {part: json.loads(x.__getstate__()) for part, x in found.items() if x is not None}
    new = {part: _without_prefix(x, part == "decoder") for part, x in old.items()}
    if new == old:
        return backend
    return type(backend).from_str(json.dumps(json.loads(backend.to_str()) | new))


def _without_prefix(part: dict[str, Any], decodes: bool) -> dict[str, Any] | None:
    """A part of a `tokenizer.json` that neither adds nor takes away a space at the beginning."""
    kind = part["type"]
    if kind == "Sequence":
        name = next(key for key, value in part.items() if isinstance(value, list))
        kept = [_without_prefix(inner, decodes) for inner in part[name]]
        kept = [inner for inner in kept if inner is not None]
        return part | {name: kept} if kept else None
    if kind == "Prepend":
        return None
    if kind == "Metaspace":
        return part | {"prepend_scheme": "never"}
    if kind == "ByteLevel" and not decodes:
        return part | {"add_prefix_space": False}
    if kind == "Strip" and decodes:
        return part | {"start": 0}
    return part


def _check_whole(path: pathlib.Path, backend: Any) -> None:
    """Refuses a tokenizer whose normaliser drops capitals or the ends of lines."""
    normalizer = backend.backend_tokenizer.normalizer
    if normalizer and "B\n" not in (read := normalizer.normalize_str("B\n")):
        raise UserError(
            f"{path}: the tokenizer reads 'B\\n' as {read!r} (its normalizer), so steps and "
            "answers would be other texts than were written; take one that keeps text as it is"
        )


def _check_continuing(path: pathlib.Path, tokenizer: Tokenizer) -> None:
    """Refuses a tokenizer that puts something before a text, or between two of them."""

    def read(*texts: str) -> str:
        return tokenizer.decode([i for text in texts for i in tokenizer.encode(text)])

    for pair in _PROBES:
        try:
            alone = [read(text) for text in pair]
        except Exception:  # a vocabulary of words that has none for what it does not know
            continue
        put_before = any(one == f" {text}" for one, text in zip(alone, pair, strict=True))
        if put_before or (alone == [*pair] and read(*pair) != "".join(pair)):
            raise UserError(
                f"{path}: the tokenizer reads {pair[1]!r} after {pair[0]!r} as {read(*pair)!r}, so "
                "steps and answers would not be as the model writes them; take a tokenizer.json "
                "that puts nothing before a text"
            )


def check_vocab(arch: Arch, tokenizer: Tokenizer) -> None:
    """Checks that a tokenizer can belong to a model; says so where it seems to be another's.

    Raises:
      UserError: an id has no embedding.
    """
    rows, ids = arch.vocab_size, tokenizer.vocab_size
    if rows < ids:
        raise UserError(
            f"the model's vocabulary has {rows} rows and the tokenizer {ids} ids; "
            "take the tokenizer of the model"
        )
    if rows - ids >= _PADDING_ROWS:
        _log.warning(
            "the model's vocabulary has %d rows and the tokenizer %d ids: rows without a token "
            "are never sampled; is it the tokenizer of the model?",
            *(rows, ids),
        )


def _load_directory(directory: pathlib.Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    files = ("tokenizer.json", "tokenizer.model", "vocab.json")
    there = [file for file in files if (directory / file).is_file()]
    if not there:
        raise UserError(f"{directory}: no tokenizer ({', '.join(files)}); copy it there")
    for file in there:
        refuse_placeholder(directory / file)
    check_jsons(directory, _FILES)
    # `AutoTokenizer` of transformers 5 rebuilds the pre-tokenizer from the class that the config
    # names (SmolLM2 would lose its digit splitting), so where there is a tokenizer.json it decides.
    exact = (directory / "tokenizer.json").is_file()
    kind: Any = PreTrainedTokenizerFast if exact else AutoTokenizer
    try:
        backend = kind.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers, tokenizers and json each have their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if there == ["tokenizer.model"]:
            raise UserError(
                f"{directory}: only a tokenizer.model (SentencePiece); copy the tokenizer.json of "
                "the same model there, or make it: AutoTokenizer.from_pretrained(...)"
                f".save_pretrained(...) where sentencepiece is installed ({reason})"
            ) from error
        raise UserError(f"{directory}: the tokenizer cannot be read ({reason})") from error
    if not backend.is_fast:
        raise UserError(f"{directory}: not a fast tokenizer; save it with a tokenizer.json")
    if exact:
        _check_end(directory, backend.eos_token)
    return backend


def _check_end(directory: pathlib.Path, token: str | None) -> None:
    """Refuses an end of text without an id: transformers would give it one that nobody learned."""
    from tokenizers import Tokenizer

    config, added = (directory / name for name in ("tokenizer_config.json", "added_tokens.json"))
    known = {*read_json(added)} if added.is_file() else set()
    if config.is_file():
        rows = read_json(config).get("added_tokens_decoder") or {}
        known |= {row["content"] for row in rows.values()}
    if token is None or token in known:
        return
    if Tokenizer.from_file(str(directory / "tokenizer.json")).token_to_id(token) is None:
        raise UserError(
            f"{directory}: eos_token = {token!r} is no token of its tokenizer.json, so no answer "
            "would end with it; name the one that ends the model's answers"
        )


def _stop_ids(path: pathlib.Path, backend: Any) -> tuple[int, ...]:
    """What the model's own files call the end of text, and the known ends of a chat turn."""
    vocabulary = backend.get_vocab()
    ids = set(vocabulary.values())
    found = {vocabulary[token] for token in _STOP if token in backend.get_added_vocab()}
    found |= {backend.eos_token_id} - {None}
    for name in ("generation_config.json", "config.json"):
        file = path / name
        named = read_json(file).get("eos_token_id") if file.is_file() else None
        named = named if isinstance(named, list) else [] if named is None else [named]
        if not all(type(i) is int for i in named):
            raise UserError(f"{file}: eos_token_id = {named}: expected token ids; correct it")
        if outside := set(named) - ids:
            _log.warning("%s: eos_token_id %s without a token, left out", file, sorted(outside))
        found |= set(named) & ids
    return tuple(sorted(found))

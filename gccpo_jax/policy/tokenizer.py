"""Text to token ids and back: a thin, immutable view of a fast Hugging Face tokenizer.

`transformers` is imported when a tokenizer is loaded, not with the package.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.locate import locate

_STOP = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>")
_PADDING_ROWS = 1024  # models round their vocabulary up; a larger gap is another tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """What the package asks of a tokenizer. Compared and hashed by identity."""

    backend: Any  # a `transformers.PreTrainedTokenizerFast`
    stop_ids: tuple[int, ...]  # ids that end an answer, ascending; never empty

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
        """Ids of `text` alone: nothing is put before or after it."""
        return self.backend.encode(text, add_special_tokens=False)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of `ids`, every space as it is. Ids outside the vocabulary vanish."""
        ids = [int(i) for i in ids]
        return self.backend.backend_tokenizer.decode(ids, skip_special_tokens=skip_special)

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
            raise UserError("this tokenizer has no chat template; use plain prompts (chat=false)")
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        text = self.backend.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        return self.encode(text)

    def _plain(self, text: str) -> list[int]:
        ids = self.encode(text)
        bos = self.backend.bos_token_id
        uses_bos = bos is not None and self.backend.encode("", add_special_tokens=True)[:1] == [bos]
        return [bos, *ids] if uses_bos else ids

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
        return self.backend.backend_tokenizer.decode_batch(singles, skip_special_tokens=False)

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
        config = json.loads(file.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        file.write_text(json.dumps(config, indent=2) + "\n")


def load_tokenizer(path_or_hub_id: str | pathlib.Path) -> Tokenizer:
    """Loads the tokenizer of whatever `gccpo_jax.locate.locate` understands.

    Raises:
      UserError: there is none, it is not a fast one, or it names no token that ends a text.
    """
    path = locate(path_or_hub_id)
    # Without PyTorch transformers would say so on every run; its tokenizers need none.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if path.suffix == ".gguf":
        from gccpo_jax.policy.gguf_tokenizer import load_gguf_tokenizer

        backend = load_gguf_tokenizer(path)
    else:
        backend = _load_directory(path)
    stops = _stop_ids(path, backend)
    if not stops:
        raise UserError(f"{path}: the tokenizer names no end-of-text token; set eos_token")
    return Tokenizer(backend, stops)


def check_vocab(arch: Arch, tokenizer: Tokenizer) -> None:
    """Checks that a tokenizer can belong to a model.

    Raises:
      UserError: an id has no embedding, or too many embeddings have no id.
    """
    rows, ids = arch.vocab_size, tokenizer.vocab_size
    if not 0 <= rows - ids < _PADDING_ROWS:
        raise UserError(
            f"the model's vocabulary has {rows} rows and the tokenizer {ids} ids; "
            "take the tokenizer of the model"
        )


def _load_directory(directory: pathlib.Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    files = ("tokenizer.json", "tokenizer.model", "vocab.json")
    if not any((directory / file).is_file() for file in files):
        raise UserError(f"{directory}: no tokenizer ({', '.join(files)}); copy it there")
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
        raise UserError(f"{directory}: the tokenizer cannot be read ({reason})") from error
    if not backend.is_fast:
        raise UserError(f"{directory}: not a fast tokenizer; save it with a tokenizer.json")
    return backend


def _stop_ids(path: pathlib.Path, backend: Any) -> tuple[int, ...]:
    """What the model's own files call the end of text, and the known ends of a chat turn."""
    found = {backend.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        file = path / name
        named = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        found |= set(named) if isinstance(named, list) else {named}
    added = backend.get_added_vocab()
    found |= {added[token] for token in _STOP if token in added}
    return tuple(sorted(found - {None}))

"""Word-level tokenizers of the suites made here, for policies that start from random weights."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

from tokenizers import Tokenizer, models

SPECIALS = ("<pad>", "<eos>", "<unk>")


def of_words(vocabulary: Sequence[str]) -> Tokenizer:
    """A tokenizer of these tokens, `SPECIALS` among them; how text is cut is left to say."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def save(tokenizer: Tokenizer, path: str | pathlib.Path) -> pathlib.Path:
    """Saves a tokenizer with these specials under `path` in the Hugging Face layout.

    `transformers.AutoTokenizer.from_pretrained(path)` loads it. Returns `path`.
    """
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return path

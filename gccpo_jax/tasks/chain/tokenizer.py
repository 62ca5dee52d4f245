"""The word-level tokenizer of the chain suite.

A word, a sign, a digit and a newline are one token each, so "12" is two. Spaces
are not tokens: encoding drops them, and decoding puts one between two tokens
unless both are digits or one is a newline. So the tokens of a text do not
depend on what stands around it, and decoding what a policy wrote and encoding
it again gives the same tokens.
"""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.word_level import SPECIALS, of_words

_SIGNS = ("\n", ".", "?", "+", "-", "=", text.ANSWER)


def vocabulary() -> list[str]:
    """Every token in the order of its id: specials, signs, digits, then words.

    >>> vocabulary()[:5], len(vocabulary()) == len(set(vocabulary()))
    (['<pad>', '<eos>', '<unk>', '\\n', '.'], True)
    """
    patterns = [t for row in text.ALL_TEMPLATES for t in (row.start, row.change, row.ask)]
    patterns += [text.REVERSED_START, text.REVERSED_END, text.REVERSED_ASK, *text.FILLERS]
    words = ["Label", "in", "out", *re.findall(r"(?<!{)\b[A-Za-z]+\b(?!})", " ".join(patterns))]
    words += [*text.NAMES, *text.THINGS, *text.VERBS, *text.CODES]
    words += [*text.NEW_NAMES, *text.NEW_THINGS, *text.NEW_VERBS, "Room"]
    return list(dict.fromkeys([*SPECIALS, *_SIGNS, *"0123456789", *words]))


def build_tokenizer() -> Tokenizer:
    """The tokenizer as an object of the `tokenizers` library."""
    tokenizer = of_words(vocabulary())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", behavior="removed"),
            pre_tokenizers.Split("\n", behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            # Puts a space before every token but the first; the prefix occurs nowhere.
            decoders.WordPiece(prefix="<never>", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=[0-9]) (?=[0-9])"), ""),
            decoders.Replace(Regex(r" ?\n ?"), "\n"),
        ]
    )
    return tokenizer

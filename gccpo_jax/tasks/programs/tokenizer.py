"""The word-level tokenizer of the programs suite: exact, since spaces mean something in Python.

A word, a sign or a digit is one token, with the space before it if there is one, so "12" is two;
three spaces are a token, so an indentation of four is that token and the word's own space.
Decoding puts tokens one after the other: what was encoded comes back character by character.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

from gccpo_jax.tasks.programs.problem import LISTS, LOCALS, NAMES, NUMBERS, WORDS
from gccpo_jax.tasks.word_level import SPECIALS, of_words

_WORDS = ("Write", "let", "be", "Give", "if", "else", "def", "return", "pass", "tests", "it")
_SIGNS = "()[],.:=<>+-*/#"
_PIECES = r" {3}|\n| ?[A-Za-z_]+| ?[0-9]| ?[^\sA-Za-z_0-9]"


def vocabulary() -> list[str]:
    """Every token in the order of its id: specials, layout, then each piece bare and spaced.

    >>> vocabulary()[:7], len(vocabulary()) == len(set(vocabulary()))
    (['<pad>', '<eos>', '<unk>', '\\n', '   ', 'Write', ' Write'], True)
    """
    words = [*_WORDS, *WORDS.values(), *NAMES, *LISTS, *NUMBERS, *LOCALS, *_SIGNS, *"0123456789"]
    return [*SPECIALS, "\n", "   ", *(form for word in words for form in (word, " " + word))]


def build_tokenizer() -> Tokenizer:
    """The tokenizer as an object of the `tokenizers` library."""
    tokenizer = of_words(vocabulary())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer

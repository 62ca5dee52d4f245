"""Text that goes on from other text, under tokenizers that put a space before what they read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gccpo_jax.policy.tokenizer import continuing, load_tokenizer

tokenizers = pytest.importorskip("tokenizers")
MARK = "\u2581"
WORDS = ["she", "has", "7", MARK, "#", "2", ".", "\n"]


def byte_fallback(normalizer, pre_tokenizer, decoder):
    """A BPE over letters and bytes, with `she` and ` she` as tokens of their own."""
    from tokenizers import models

    letters = ["s", "h", "e", "a", "7", "2", "#", ".", MARK]
    merges = [("s", "h"), ("sh", "e"), (MARK, "she"), ("#", "#")]
    pieces = [*(f"<0x{b:02X}>" for b in range(256)), *letters, *("".join(m) for m in merges)]
    bpe = models.BPE({p: i for i, p in enumerate(pieces)}, merges, byte_fallback=True)
    found = tokenizers.Tokenizer(bpe)
    found.normalizer, found.pre_tokenizer, found.decoder = normalizer, pre_tokenizer, decoder
    return found


def llama2():
    from tokenizers import decoders, normalizers

    parts = [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    taken = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    decoder = decoders.Sequence([*taken, decoders.Strip(" ", 1, 0)])
    return byte_fallback(normalizers.Sequence(parts), None, decoder)


def metaspace(scheme):
    from tokenizers import decoders, pre_tokenizers

    space = {"replacement": MARK, "prepend_scheme": scheme}
    decoder = decoders.Sequence([decoders.Metaspace(**space), decoders.ByteFallback()])
    return byte_fallback(None, pre_tokenizers.Metaspace(**space), decoder)


def byte_level():
    from tokenizers import decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    found = tokenizers.Tokenizer(models.BPE({p: i for i, p in enumerate(letters)}, []))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    found.decoder = decoders.ByteLevel()
    return found


KINDS = {
    "llama2": llama2(),
    "first": metaspace("first"),
    "always": metaspace("always"),
    "never": metaspace("never"),
    "bytes": byte_level(),
}


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.text(alphabet="she a7#2.\n\u00e9", max_size=6), max_size=4))
def test_pieces_read_apart_are_the_text(name, parts):
    tokenizer = continuing(KINDS[name])
    ids = [i for part in parts for i in tokenizer.encode(part, add_special_tokens=False).ids]
    assert tokenizer.decode(ids) == "".join(parts)


@pytest.mark.parametrize("name", ["llama2", "first", "always"])
def test_a_step_is_read_as_the_policy_writes_it(name):
    """Behind a newline: the word without the space that it has at the beginning of a text."""
    given_text, going_on = KINDS[name], continuing(KINDS[name])
    pieces = [going_on.id_to_token(i) for i in going_on.encode("she 7").ids]
    assert pieces == ["she", MARK, "7"]
    assert given_text.encode("she").tokens == [f"{MARK}she"]
    cue = [going_on.id_to_token(i) for text in ("## ", "7") for i in going_on.encode(text).ids]
    assert cue == ["##", MARK, "7"]


def test_a_tokenizer_without_a_prefix_is_taken_as_it_is():
    plain = load_tokenizer("tiny").backend.backend_tokenizer
    assert continuing(plain) is plain

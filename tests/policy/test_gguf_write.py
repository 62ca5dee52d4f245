"""What is written as GGUF is what is read back: weights, tokenizer, chat template."""

import json

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.policy.gguf_tokenizer import pre_tokenizer_of
from gccpo_jax.policy.gguf_weights import unpermute
from gccpo_jax.policy.gguf_write import permute, save_gguf
from gccpo_jax.policy.tokenizer import Tokenizer, load_tokenizer
from tests.helpers.paths import GOLDEN
from tests.helpers.trees import same

pytest.importorskip("gguf")
TEXT = "12 apples,  and\n\nit's 3.5"


def flat(params):
    return {name: x for name, x in weights.to_hf_tensors(*params).items()}


@pytest.mark.parametrize("family", ["smollm2", "llama_bias", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind, error", [("F16", 2**-11), ("BF16", 2**-8), ("Q8_0", 2**-7)])
def test_weights_come_back_within_the_kind_s_rounding(family, kind, error, tmp_path):
    arch, params = weights.load(GOLDEN / family)
    file = tmp_path / "m.gguf"
    save_gguf(file, arch, params, load_tokenizer("tiny"), kind)
    loaded, again = weights.load(file)
    assert (loaded.tied, loaded.kv_heads, loaded.rope_theta, loaded.max_positions) == (
        arch.tied, arch.kv_heads, arch.rope_theta, arch.max_positions,
    )  # fmt: skip
    ours, theirs = flat((arch, params)), flat((loaded, again))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        largest = np.abs(tensor).max(-1, keepdims=True) if tensor.ndim > 1 else 0.0
        assert (np.abs(theirs[name] - tensor) <= error * largest + 1e-7).all(), name


def test_a_tokenizer_without_a_name_is_stored_whole(tmp_path):
    arch, params = weights.load("tiny")
    ours = load_tokenizer("tiny")
    assert not save_gguf(tmp_path / "m.gguf", arch, params, ours)
    read = load_tokenizer(tmp_path / "m.gguf")
    text = "Ana has 3 pens .\n#### 12"
    assert read.encode(text) == ours.encode(text) and read.stop_ids == ours.stop_ids
    assert read.pad_id == ours.pad_id and read.decode(ours.encode(text)) == text


def bpe(pre):
    """A small byte-level BPE that cuts text as `pre` does."""
    from tokenizers import AddedToken, decoders, models, normalizers
    from tokenizers import Tokenizer as Whole
    from transformers import PreTrainedTokenizerFast

    from gccpo_jax.policy.gguf_tokenizer import _pre_tokenizer

    letters = sorted({piece for word, _ in _pre_tokenizer(pre).pre_tokenize_str(TEXT + " at")
                      for piece in word})  # fmt: skip
    vocabulary = {token: n for n, token in enumerate([*letters, "an", "and"])}
    whole = Whole(models.BPE(vocabulary, [("a", "n"), ("an", "d")]))
    whole.pre_tokenizer, whole.decoder = _pre_tokenizer(pre), decoders.ByteLevel()
    if pre == "qwen2":
        whole.normalizer = normalizers.NFC()
    fast = PreTrainedTokenizerFast(tokenizer_object=whole, clean_up_tokenization_spaces=False)
    fast.add_special_tokens({"eos_token": AddedToken("<|im_end|>", special=True)})
    fast.chat_template = "{{ messages[0]['content'] }}<|im_end|>"
    return Tokenizer(fast, (fast.eos_token_id,))


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_a_byte_level_tokenizer_is_read_back_by_its_name(pre, tmp_path):
    ours = bpe(pre)
    assert pre_tokenizer_of(json.loads(ours.backend.backend_tokenizer.to_str())) == pre
    arch, params = weights.load("tiny")
    assert save_gguf(tmp_path / "m.gguf", arch, params, ours)
    read = load_tokenizer(tmp_path / "m.gguf")
    assert read.encode(TEXT) == ours.encode(TEXT) and read.decode(ours.encode(TEXT)) == TEXT
    assert read.eos_id == ours.eos_id and read.render("and") == ours.render("and")


def test_rows_of_heads_are_put_into_ggufs_order_and_back():
    rows = np.arange(2 * 6 * 3).reshape(12, 3)
    np.testing.assert_array_equal(unpermute(permute(rows, 2), 2), rows)
    assert permute(rows, 2)[:4, 0].tolist() == [0, 9, 3, 12]


def test_an_unknown_kind_is_refused_and_nothing_is_left(tmp_path):
    arch, params = weights.load("tiny")
    with pytest.raises(UserError, match="gguf 'Q2': expected one of F16, BF16, Q8_0"):
        save_gguf(tmp_path / "m.gguf", arch, params, load_tokenizer("tiny"), "Q2")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_a_size_go_into_numbered_files_with_an_index(tmp_path):
    arch, params = weights.load("tiny")
    weights.save(tmp_path / "m", arch, params, shard_bytes=10**6)
    names = sorted(file.name for file in (tmp_path / "m").glob("*.safetensors"))
    assert names[0] == "model-00001-of-00003.safetensors" and len(names) == 3
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(names)
    assert all((tmp_path / "m" / name).stat().st_size < 1.1e6 for name in names)
    same(params, weights.load(tmp_path / "m")[1])

"""Tokenizers: exact text, chat templates, stop tokens, GGUF metadata, and refusals."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.tokenizer import check_vocab, load_tokenizer
from gccpo_jax.policy.weights import load, save
from gccpo_jax.tasks import bare_task

gguf = pytest.importorskip("gguf")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "Ċ Ċ", "1 2"]
TEXT = "hello  world,\n\n\nit's 12 345 <b> Ünïcödé 中文\t!\n "


def alphabet():
    """The characters that stand for the 256 bytes in a byte-level BPE."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write(path, pre="smollm", kind="gpt2", **fields):
    """A GGUF file that holds only a tokenizer."""
    tokens = SPECIAL + alphabet() + [merge.replace(" ", "") for merge in MERGES]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_tokenizer(write(tmp_path_factory.mktemp("tokenizer") / "t.gguf"))


def test_importing_the_package_does_not_import_transformers():
    import subprocess

    code = (
        "import sys, gccpo_jax.policy.tokenizer, gccpo_jax.policy.weights; "
        "print('transformers' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("text", [TEXT, "", " ", "\n", " a", "a ,b . c 's"])
def test_decoding_what_was_encoded_gives_the_text(tiny, text):
    assert tiny.decode(tiny.encode(text)) == text


def test_merges_and_digits(tiny):
    words = [tiny.decode([i]) for i in tiny.encode("hello 12\n\n")]
    assert words == ["hello", " ", "1", "2", "\n\n"]


@pytest.mark.parametrize(
    "pre, digits", [("smollm", 2), ("gpt-2", 1), ("llama-bpe", 1), ("qwen2", 2)]
)
def test_pre_tokenizers_differ_in_how_they_split_digits(pre, digits, tmp_path):
    tokenizer = load_tokenizer(write(tmp_path / "t.gguf", pre))
    assert len(tokenizer.encode("12")) == digits
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_special_ids(tiny):
    assert (tiny.eos_id, tiny.pad_id, tiny.stop_ids) == (2, 2, (0, 2))
    assert tiny.vocab_size == 3 + 256 + len(MERGES)
    text = "a<|im_end|>"
    assert tiny.encode(text)[-1] == 2
    assert tiny.decode(tiny.encode(text)) == text
    assert tiny.decode(tiny.encode(text), skip_special=True) == "a"


def test_chatml_is_the_template_of_a_file_that_has_none(tiny):
    text = tiny.decode(tiny.render("hello", "be brief"))
    turns = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
    assert text == turns + "<|im_start|>assistant\n"
    assert "system" not in tiny.decode(tiny.render("hello"))


def test_the_template_of_the_file_wins(tmp_path):
    template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    tokenizer = load_tokenizer(write(tmp_path / "t.gguf", chat_template=template))
    assert tokenizer.decode(tokenizer.render("hi", "s")) == "[system]s[user]hi"


def test_plain_rendering(tiny, tmp_path):
    assert tiny.render("hello", chat=False) == tiny.encode("hello")
    assert tiny.decode(tiny.render("hello", "rules", chat=False)) == "rules\n\nhello"
    with_bos = load_tokenizer(write(tmp_path / "t.gguf", "llama-bpe", add_bos_token=True))
    assert with_bos.render("hello", chat=False) == [1, *with_bos.encode("hello")]


def test_without_a_pre_tokenizer_text_is_cut_as_llama_cpp_does(tmp_path, caplog):
    tokenizer = load_tokenizer(write(tmp_path / "t.gguf", pre=""))
    assert "tokenizer.ggml.pre" in caplog.text
    cut = tokenizer.backend.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    found = [piece for piece, _ in cut("hello, it's 12345  <b>.")]
    # Signs of the first expression part, then words, then digits by three.
    expected = "hello , \u0120it ' s \u0120 123 45 \u0120\u0120 < b >."
    assert found == expected.split(" ")
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("pre", "said", "begins"),
    [
        ("llama-bpe", None, True),
        ("llama3", None, True),
        ("llama-bpe", False, False),
        ("qwen2", None, False),
        ("smollm", True, True),
    ],
)
def test_the_begin_token_is_that_of_llama_cpp(pre, said, begins, tmp_path, caplog):
    fields = {} if said is None else {"add_bos_token": said}
    tokenizer = load_tokenizer(write(tmp_path / "t.gguf", pre, **fields))
    ids = tokenizer.encode("hello")
    assert tokenizer.render("hello", chat=False) == ([1, *ids] if begins else ids)
    assert ("add_bos_token" in caplog.text) == (said is None and begins)


def newline(piece: str) -> bool:
    return "\n" in piece


def test_ids_containing_a_newline(tiny):
    found = tiny.ids_where(newline)
    expected = ["\n" in tiny.decode([i]) for i in range(tiny.vocab_size)]
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == 2  # "\n" and "\n\n"


def test_ids_containing_can_cover_the_padded_rows_of_a_model(tiny):
    found, size = tiny.ids_where(newline), tiny.vocab_size
    padded = tiny.ids_where(newline, size + 700)
    np.testing.assert_array_equal(padded, np.append(found, np.zeros(700, bool)))
    np.testing.assert_array_equal(tiny.ids_where(newline, size), found)


def test_saved_beside_a_model_and_loaded_again(tiny, tmp_path):
    arch = Arch(300, width=8, depth=1, heads=2, kv_heads=1, head_dim=4, mlp_width=8)
    params = model.nest(
        {name: np.zeros(leaf.shape, "f") for name, leaf in model.layout(arch).items()}
    )
    save(tmp_path / "m", arch, params, tiny)
    assert load(tmp_path / "m")[0] == arch
    again = load_tokenizer(tmp_path / "m")
    assert again.encode(TEXT) == tiny.encode(TEXT)
    assert again.render("hello", "x") == tiny.render("hello", "x")
    assert (again.stop_ids, again.eos_id, again.pad_id) == (tiny.stop_ids, 2, 2)
    config = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert config["eos_token_id"] == [0, 2]


def test_tokenizer_json_decides_whatever_class_the_config_names(tiny, tmp_path):
    tiny.save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"tokenizer_class": "GPT2Tokenizer"}
    file.write_text(json.dumps(config))
    assert load_tokenizer(tmp_path).encode("12") == tiny.encode("12")


def test_stop_tokens_come_from_the_generation_config_too(tiny, tmp_path):
    tiny.save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    assert load_tokenizer(tmp_path).stop_ids == (0, 2, 7)


@pytest.mark.parametrize("rows", [-1, 0, 1000, 5000])
def test_check_vocab_gives_both_numbers(tiny, rows, caplog):
    """Too few rows are an error, many more than ids a warning: those are never sampled."""
    size = tiny.vocab_size
    arch = Arch(size + rows, width=8, depth=1, heads=2, kv_heads=1, head_dim=4, mlp_width=8)
    if rows < 0:
        with pytest.raises(UserError, match=f"{size + rows} rows .* {size} ids"):
            check_vocab(arch, tiny)
        return
    check_vocab(arch, tiny)
    assert (f"{size + rows} rows and the tokenizer {size} ids" in caplog.text) == (rows == 5000)


def refused(path, *words):
    with pytest.raises(UserError) as error:
        load_tokenizer(path)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def test_refusals(tiny, tmp_path):
    refused(tmp_path, "no tokenizer")
    refused(write(tmp_path / "a.gguf", kind="llama"), "'llama'", "safetensors")
    refused(write(tmp_path / "b.gguf", pre="klingon"), "'klingon'", "smollm")
    (tmp_path / "tokenizer.json").write_text("{}")
    refused(tmp_path, "cannot be read")


def test_a_missing_template_or_end_token_is_an_error(tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    refused(tmp_path, "eos_token")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "a"}')
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.render("a", chat=False) == [0]
    with pytest.raises(UserError, match="--config.task.options.chat=False"):
        tokenizer.render("a")


def test_an_answer_is_over_where_its_terminator_begins_or_as_the_task_says(tiny):
    for name, over, not_over in (
        ("math", ("}", "}$", "}\n"), ("{", "5", "", " }")),
        ("gsm8k", ("\n", " apples", "**"), ("5", ",", ".5", "")),
        ("chain", (), ("\n", "5", "")),
    ):
        task = bare_task(name)
        assert [task.is_over(piece) for piece in over] == [True] * len(over), name
        assert [task.is_over(piece) for piece in not_over] == [False] * len(not_over), name
    assert bare_task("gsm8k").is_over(".") is None  # a digit may follow
    tagged = dataclasses.replace(bare_task("math"), terminator="</answer>")
    assert tagged.is_over("</") and tagged.is_over("</answer>\n") and not tagged.is_over("answer")

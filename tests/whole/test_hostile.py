"""What fuzzing found, each as its smallest case: text, arguments and files that mean harm."""

import json
import pathlib
import shutil
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from gccpo_jax import config
from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.policy.tokenizer import load_tokenizer
from gccpo_jax.runtime import cli
from gccpo_jax.tasks.answers import last_boxed
from gccpo_jax.tasks.gsm8k import extract
from tests.helpers.paths import GOLDEN

GOLDEN = GOLDEN / "qwen2"


@pytest.mark.parametrize(
    ("read", "text", "found"),
    [
        (last_boxed, "\\boxed{" * 20_000, None),
        (last_boxed, "\\boxed{1}" + "\\boxed{" * 20_000, "1"),
        (last_boxed, "\\boxed" + " " * 50_000, None),
        (extract, "####" + " " * 50_000 + "x", None),
        (extract, "####" + " " * 50_000 + "**" + " " * 50_000 + "5", "5"),
    ],
    ids=["open boxes", "a closed one", "spaces", "no number", "a number"],
)
def test_time_grows_no_faster_than_text(read, text, found):
    begin = time.perf_counter()
    assert read(text) == found
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} \boxed{2", "1"),
        (r"\boxed{a \boxed{b} c", "b"),
        (r"\boxed{a \boxed{b c}", "b c"),
        (r"\boxed{a} \boxed{b \} c", "a"),
        (r"\boxed {a{b}} \boxed", "a{b}"),
        (r"\boxed{a\\} \boxed{", r"a\\"),
    ],
)
def test_a_box_that_does_not_close_is_none(text, found):
    assert last_boxed(text) == found


def test_no_text_is_run_as_python():
    """math-verify evaluates expressions outside LaTeX; in the child nothing of it may."""
    pytest.importorskip("math_verify")
    from gccpo_jax.tasks.checking.equality import open_math

    assert open_math("2", "so 1 + 1", 60) == 0.0
    assert open_math("2", r"so \boxed{1 + 1}", 60) == 1.0


@pytest.mark.parametrize("value", ["a\nb", "\x1b[2J", "\ud800", "\u202e"])
def test_a_message_is_one_line_that_can_be_printed(value):
    said = str(UserError(f"config.policy.path = {value}: no such file"))
    assert said.isprintable() and said.endswith(": no such file")


def test_a_message_is_no_longer_than_a_page():
    said = str(UserError(f"config.policy.path = {'x' * 10**6}: no such file"))
    assert len(said) < 5000 and said.endswith("x: no such file")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("train", "x", "x"),  # after a number: the task says what it should be
        ("careless", "{[]: 1}", "{[]: 1}"),
        ("careless", "-" * 100_000 + "1", "-" * 100_000 + "1"),
        ("careless", "[1, 2]", [1, 2]),
    ],
    ids=["another type", "a key", "signs", "a list"],
)
def test_an_option_of_the_task_is_a_literal_or_text(path, text, value):
    c = config.default()
    c.task.options.update(train=40)
    cli.set_field(c, f"task.options.{path}", text)
    assert config.freeze(c).task.options[path] == value


@pytest.mark.parametrize(
    ("path", "text"),
    [("task.options.a.b", "1"), ("task.options.x", "{'a.b': 1}"), ("steps", "9" * 5000)],
    ids=["a dot", "a dotted key", "5000 digits"],
)
def test_an_override_that_cannot_be_is_refused(path, text):
    with pytest.raises(UserError, match=path):
        cli.set_field(config.default(), path, text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", 10**300),
        ("steps", 10**5000),
        ("optim.lr", float("inf")),
        ("optim.lr", 10**400),
        ("task", {1: 0, "b": 0}),
    ],
    ids=["300 digits", "5000 digits", "inf", "overflow", "keys"],
)
def test_a_value_that_cannot_be_is_refused(path, value):
    mapping = config.default().to_dict()
    section, _, name = path.rpartition(".")
    (mapping[section] if section else mapping)[name] = value
    with pytest.raises(UserError, match=f"config.{path}"):
        config.freeze(mapping)


def test_a_config_file_that_returns_something_else_is_refused(tmp_path):
    (tmp_path / "c.py").write_text("def get_config(): pass\n")
    with pytest.raises(UserError, match="returned NoneType, expected a ConfigDict"):
        cli.load_config(str(tmp_path / "c.py"))


@pytest.fixture
def model(tmp_path):
    return pathlib.Path(shutil.copytree(GOLDEN, tmp_path / "model"))


def change(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    "fields",
    [
        dict(num_attention_heads="4"),
        dict(num_attention_heads=0),
        dict(num_key_value_heads=-2),
        dict(hidden_size=None),
        dict(hidden_size=10**30),
        dict(num_hidden_layers=10**9),  # as many names were made
        dict(vocab_size=2**31 - 1),  # so much memory was asked for
        dict(head_dim=8.0),
        dict(model_type=[]),
        dict(rope_parameters=[1]),
        dict(rope_parameters={"rope_type": "llama3", "factor": "x"}),
        dict(rope_parameters=None, rope_theta=float("nan")),
        dict(rms_norm_eps="x"),
        dict(rms_norm_eps=float("inf")),
    ],
    ids=str,
)
def test_a_config_that_lies_is_refused(model, fields):
    change(model / "config.json", **fields)
    begin = time.perf_counter()
    with pytest.raises(UserError, match="model"):
        weights.load(model)
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
@pytest.mark.parametrize("text", ["[]", "3", '"x"', "[" * 99_999, '{"a": "\udcff"}'])
def test_json_of_another_kind_is_refused(model, name, text):
    (model / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=name):
        weights.load(model)


@pytest.mark.parametrize("names", [[1], 3, None, {"a": 3}], ids=str)
def test_file_names_of_another_kind_are_refused(model, names):
    text = json.dumps({"weight_map": names})
    (model / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match="no weight_map of file names"):
        weights.load(model)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F4"])
def test_a_tensor_of_a_type_that_numpy_does_not_know_is_refused(model, dtype):
    file = model / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    row = header["model.norm.weight"]
    row |= {"dtype": dtype, "shape": [128 if dtype == "F8_E4M3" else 256]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(UserError, match="model"):
        weights.load(model)


def gguf_file(path, *, array=b"", **metadata):
    """A GGUF file of the architecture llama without tensors; `array` is raw metadata."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        kind = gguf.GGUFValueType.get_type(value)
        inner = gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
        writer.add_key_value(key.replace("__", "."), value, kind, inner)
    for write in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write}_to_file")()
    writer.close()
    if array:
        data = path.read_bytes()
        tensors, keys = struct.unpack_from("<QQ", data, 8)
        path.write_bytes(data[:8] + struct.pack("<QQ", tensors, keys + 1) + array + data[24:])
    return path


def test_an_array_longer_than_its_file_is_not_looked_for(tmp_path):
    """Element by element, 2**60 of them; in a process that a hang does not take along."""
    array = struct.pack("<Q1sIIQ", 1, b"x", 9, 4, 2**60)
    path = gguf_file(tmp_path / "m.gguf", array=array)
    code = f"from gccpo_jax.policy import weights; weights.load({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "truncated or damaged" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"llama__embedding_length": "x", "llama__attention__head_count": 4},
        {"llama__embedding_length": 32, "llama__attention__head_count": 0},
        {"llama__embedding_length": [1, 2], "llama__attention__head_count": 4},
    ],
)
def test_metadata_of_another_kind_is_refused(tmp_path, metadata):
    with pytest.raises(UserError, match="m.gguf"):
        weights.load(gguf_file(tmp_path / "m.gguf", **metadata))


BPE = {"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__tokens": ["a", "b", "ab"]}


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"tokenizer__ggml__merges": "x"},
        {"tokenizer__ggml__merges": ["ab"]},
        {"tokenizer__ggml__merges": ["a c"]},
        {"tokenizer__ggml__merges": ["a b"], "tokenizer__ggml__eos_token_id": 0.5},
        {"tokenizer__ggml__merges": ["a b"], "tokenizer__ggml__tokens": 3},
    ],
)
def test_a_vocabulary_of_another_kind_is_refused(tmp_path, metadata):
    with pytest.raises(UserError, match="m.gguf"):
        load_tokenizer(gguf_file(tmp_path / "m.gguf", **BPE | metadata))


def test_a_whole_model_is_read_as_before(model):
    arch, params = weights.load(model)
    assert arch.depth == 2 and np.isfinite(np.asarray(params["embed"])).all()

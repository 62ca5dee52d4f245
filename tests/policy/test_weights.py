"""Weights in Hugging Face directories and GGUF files: round trips and every refusal."""

import json
import pathlib
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from gccpo_jax.errors import UserError
from gccpo_jax.policy import locate, model, weights
from gccpo_jax.runtime import sharding
from tests.helpers.paths import GOLDEN
from tests.helpers.trees import refused, same

FAMILIES = sorted(path.name for path in GOLDEN.iterdir())


@pytest.fixture
def copy(tmp_path):
    """A copy of a golden model that a test may damage."""
    return pathlib.Path(shutil.copytree(GOLDEN / "qwen2", tmp_path / "model"))


def edit(directory, change):
    file = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    change(tensors)
    safetensors.numpy.save_file(tensors, file)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_is_bitwise_the_same(family, dtype, tmp_path):
    arch, params = weights.load(GOLDEN / family, dtype)
    assert params["embed"].dtype == dtype == arch.dtype
    weights.save(tmp_path / "a" / "b", arch, params)
    again, loaded = weights.load(tmp_path / "a" / "b")
    assert again == arch
    same(params, loaded)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_tensors_are_those_of_transformers(family, tmp_path):
    weights.save(tmp_path / "m", *weights.load(GOLDEN / family))
    ours = safetensors.numpy.load_file(tmp_path / "m" / "model.safetensors")
    theirs = safetensors.numpy.load_file(GOLDEN / family / "model.safetensors")
    same(dict(sorted(ours.items())), dict(sorted(theirs.items())))


def test_transformers_reads_the_config(tmp_path):
    transformers = pytest.importorskip("transformers")
    weights.save(tmp_path / "m", *weights.load(GOLDEN / "llama3"))
    ours = transformers.AutoConfig.from_pretrained(tmp_path / "m").to_dict()
    theirs = transformers.AutoConfig.from_pretrained(GOLDEN / "llama3").to_dict()
    for field in ("rope_parameters", "hidden_size", "head_dim", "tie_word_embeddings", "dtype"):
        assert ours[field] == theirs[field]


def test_the_dtype_written_is_that_of_the_parameters(tmp_path):
    arch, params = weights.load(GOLDEN / "qwen2")
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    weights.save(tmp_path / "m", arch, half)
    again, loaded = weights.load(tmp_path / "m")
    assert again.dtype == "bfloat16"
    same(half, loaded)


def test_sharded_checkpoint(copy):
    arch, whole = weights.load(copy)
    tensors = safetensors.numpy.load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        part = {n: t for n, t in tensors.items() if files[n] == file}
        safetensors.numpy.save_file(part, copy / file)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    same(weights.load(copy), (arch, whole))
    (copy / "model-1.safetensors").unlink()
    refused(copy, "model-1.safetensors", "missing")


def test_arrays_go_where_shardings_say():
    devices = jax.devices()
    target = jax.sharding.SingleDeviceSharding(devices[-1])
    _, params = weights.load(GOLDEN / "qwen2")

    def shardings(arch):
        return jax.tree.map(lambda _: target, model.abstract(arch))

    _, placed = weights.load(GOLDEN / "qwen2", shardings=shardings)
    assert all(leaf.devices() == {devices[-1]} for leaf in jax.tree.leaves(placed))
    same(params, placed)


def test_missing_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(tmp_path / "nothing", "no such directory")
    refused("nothing.gguf", "no such")
    refused("nobody/nothing", "nobody/nothing", "Hugging Face")
    refused("hub:nobody/nothing", "Hugging Face")
    refused("https://huggingface.co/nobody/nothing", "org/name")
    (tmp_path / "file.txt").write_text("x")
    refused(tmp_path / "file.txt", "neither")
    refused(tmp_path, "no config.json")


def test_hub_ids_download_only_what_is_safe(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    calls = []

    def snapshot_download(repo, revision, allow_patterns):
        calls.append((repo, revision, allow_patterns))
        return str(GOLDEN)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert locate.locate("hub:some-org/some.model@v1") == GOLDEN
    (repo, revision, patterns) = calls[0]
    assert (repo, revision) == ("some-org/some.model", "v1")
    assert not any(p.endswith((".bin", ".pt", ".py", "*")) for p in patterns if p != "tokenizer*")


@pytest.mark.parametrize(("revision", "said"), [("", True), ("@v1", False)])
def test_a_hub_id_that_may_be_another_model_tomorrow_is_said(revision, said, monkeypatch, caplog):
    hub = pytest.importorskip("huggingface_hub")
    commit = "0123456789" * 4
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: f"/cache/{commit}")
    assert locate.locate(f"some-org/m{revision}").name == commit
    assert (f"some-org/m@{commit}" in caplog.text) == said


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickles_are_refused(copy, name):
    (copy / "model.safetensors").unlink()
    (copy / name).write_bytes(pickle.dumps({}))
    refused(copy, name, "safetensors only")


def test_no_weights(copy):
    (copy / "model.safetensors").unlink()
    refused(copy, "no *.safetensors")


def test_broken_json(copy):
    (copy / "config.json").write_text("{")
    refused(copy, "config.json", "JSON")


@pytest.mark.parametrize("keep", [0, 5, 200, -100])
def test_truncated_safetensors(copy, keep):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(copy, "model.safetensors", "truncated or damaged")


def test_missing_tensors_are_named(copy):
    edit(copy, lambda t: [t.pop(f"model.layers.{i}.mlp.up_proj.weight") for i in (0, 1)])
    refused(copy, "2 tensors are missing", "model.layers.0.mlp.up_proj.weight")


def test_unknown_tensors_are_named(copy):
    edit(copy, lambda t: t.update(extra=np.zeros(3, np.float32)))
    refused(copy, "1 tensors are unknown", "extra")


def test_rotary_frequencies_and_a_repeated_embedding_are_ignored(copy):
    before = weights.load(copy)

    def add(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(4, np.float32)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    edit(copy, add)
    same(before, weights.load(copy))


def test_shape_mismatch_gives_both_shapes(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 65}))
    refused(copy, "model.embed_tokens.weight", "(64, 32)", "(65, 32)")


def test_unsupported_config_names_the_directory(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    refused(copy, str(copy), "hidden_act='relu'")


class BrokenTokenizer:
    """Fails after it has written something."""

    def save(self, directory):
        (pathlib.Path(directory) / "tokenizer.json").write_text("{}")
        raise RuntimeError("disk full")


def test_a_failed_save_leaves_the_old_model_alone(tmp_path):
    arch, params = weights.load(GOLDEN / "qwen2")
    weights.save(tmp_path / "m", arch, params)
    other = jax.tree.map(lambda x: x + 1, params)
    with pytest.raises(RuntimeError):
        weights.save(tmp_path / "m", arch, other, BrokenTokenizer())
    with pytest.raises(RuntimeError):
        weights.save(tmp_path / "new", arch, other, BrokenTokenizer())
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    same(params, weights.load(tmp_path / "m")[1])
    weights.save(tmp_path / "m", arch, other)
    same(other, weights.load(tmp_path / "m")[1])
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_save_does_not_overwrite_what_is_not_a_model(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not a model"):
        weights.save(tmp_path, *weights.load(GOLDEN / "qwen2"))
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 4, 2), (2, 2, 2)], ids=str)
def test_loaded_onto_a_mesh_is_the_same(sizes):
    mesh = sharding.make_mesh(*sizes)

    def places(arch):
        axes = model.logical_axes(arch)
        return sharding.parameter_shardings(mesh, model.abstract(arch), axes)

    arch, wanted = weights.load(GOLDEN / "qwen2")
    _, found = weights.load(GOLDEN / "qwen2", shardings=places)
    same(found, wanted)
    for array, where in zip(jax.tree.leaves(found), jax.tree.leaves(places(arch)), strict=True):
        assert array.sharding == where


def test_a_host_holds_the_parts_of_its_own_devices_only(monkeypatch):
    """As with several processes: of eight devices' parts two are this one's."""
    mesh = sharding.make_mesh(1, 4, 2)
    where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "fsdp", "tensor"))
    shape, full = (3, 8, 4), np.arange(96, dtype=np.float32).reshape(3, 8, 4)
    own = dict(list(where.addressable_devices_indices_map(shape).items())[:2])

    class Half:
        def addressable_devices_indices_map(self, _):
            return own

    made = []
    empty = np.empty
    monkeypatch.setattr(np, "empty", lambda *given: made.append(given[0]) or empty(*given))
    monkeypatch.setattr(
        jax, "make_array_from_callback", lambda shape, _, of: [of(index) for index in own.values()]
    )
    parts = sharding.put_rows(iter(full), shape, np.dtype("float32"), True, Half())
    assert made == [[3, 2, 2]] * 2
    for part, index in zip(parts, own.values(), strict=True):
        np.testing.assert_array_equal(part, full[index])

"""Parameters from and to Hugging Face directories (`config.json` plus safetensors).

A checkpoint holds one tensor per layer and name; we hold one array per name with a
leading axis L. A Hugging Face projection is [outputs, inputs] and ours is
[*inputs, *outputs], hence a transpose and a reshape; all else keeps its order.
Only safetensors are read: a pickle runs code when it is opened.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.assemble import NAMES, _to_hf, assemble, check_names, hf_names
from gccpo_jax.policy.locate import locate
from gccpo_jax.policy.lora import merged
from gccpo_jax.policy.model_files import (
    INDEX,
    WEIGHTS,
    Read,
    open_tensors,
    read_json,
    weight_files,
)
from gccpo_jax.runtime.distributed import is_first, to_host
from gccpo_jax.types import Params

SHARD_BYTES = 5 * 10**9
"""Weights of more bytes are written as several files, as Hugging Face does it."""

_log = logging.getLogger(__name__)


def load(
    path_or_hub_id: str | pathlib.Path,
    dtype: str | None = None,
    shardings: Callable[[Arch], Any] | None = None,
) -> tuple[Arch, Params]:
    """Loads a decoder from whatever `gccpo_jax.locate.locate` understands.

    One stacked array at a time is built on the host, and of it only the parts that this
    process's devices hold: the host's peak is those, and one tensor of one layer.

    Args:
      path_or_hub_id: a directory, a hub id, a `.gguf` file, or `smollm2`.
      dtype: "float32" or "bfloat16"; by default that of the checkpoint (a
        quantised file is read as float32).
      shardings: from the shape to where each array goes, a tree like the parameters;
        the default device if None.

    Returns:
      The shape and the parameters; `arch.dtype` is the dtype they have.

    Raises:
      UserError: the model is missing, damaged, unsupported, or not safetensors.
    """
    path = locate(path_or_hub_id)
    if path.suffix == ".gguf":
        from gccpo_jax.policy import gguf_weights

        return gguf_weights.load_gguf(path, dtype, shardings)
    arch, params, _ = _load_hf(path, dtype, shardings)
    return arch, params


def load_headed(
    path: pathlib.Path,
    prefix: str,
    shardings: Callable[[Arch], Any] | None = None,
) -> tuple[Arch, Params, dict[str, np.ndarray]]:
    """A decoder with another head: what `load` returns, and the tensors whose names have `prefix`.

    With such a head the readout of tokens is not needed, and may be missing.

    Raises:
      UserError: as `load`; also a `.gguf` file, which holds no such head.
    """
    if path.suffix == ".gguf":
        raise UserError(f"{path}: a process reward model is read from a Hugging Face directory")
    return _load_hf(path, None, shardings, prefix)


def _load_hf(
    path: pathlib.Path,
    dtype: str | None,
    shardings: Callable[[Arch], Any] | None,
    prefix: str = "",
) -> tuple[Arch, Params, dict[str, np.ndarray]]:
    config = _config(path)
    arch = _arch_of(path, config, dtype)
    with open_tensors(weight_files(path, config.get("transformers_weights"))) as (names, read):
        others = [name for name in names if prefix and name.startswith(prefix)]
        head = {name: np.asarray(read(name)) for name in others}
        if head:
            arch = dataclasses.replace(arch, tied=True)
            names = names - set(head) - {NAMES["unembed"]}
        else:
            arch, names, read = settle_head(path, arch, names, read)
        ignored = {n for n in names if n.endswith("rotary_emb.inv_freq")}  # of old checkpoints
        check_names(path, arch, names - ignored)
        return arch, assemble(arch, read, shardings(arch) if shardings else None), head


def read_arch(directory: pathlib.Path, dtype: str | None = None) -> Arch:
    """The shape of the model in a Hugging Face directory; no weights are read.

    Raises:
      UserError: no `config.json`, or it asks for something that is not supported.
    """
    return _arch_of(directory, _config(directory), dtype)


def _config(directory: pathlib.Path) -> dict[str, Any]:
    file = directory / "config.json"
    if not file.is_file():
        held = sorted(f.name for f in directory.glob("*.gguf"))
        raise UserError(
            f"{directory}: no config.json, so not a Hugging Face model directory"
            + (f"; it holds {held[0]}: give that file" if held else "")
        )
    return read_json(file)


def _arch_of(directory: pathlib.Path, config: Mapping[str, Any], dtype: str | None) -> Arch:
    try:
        return Arch.from_hf({**config, **({"torch_dtype": dtype, "dtype": dtype} if dtype else {})})
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None


def settle_head(
    path: pathlib.Path, arch: Arch, found: set[str], read: Read
) -> tuple[Arch, set[str], Read]:
    """What a tied config means beside a head in the file, as `transformers` 5 has it.

    A head that repeats the embedding is left out; one of its own is loaded, and the model is
    not tied; one alone is the embedding.
    """
    embed, head = NAMES["embed"], NAMES["unembed"]
    if not arch.tied or head not in found:
        return arch, found, read
    if embed not in found:
        return arch, found - {head} | {embed}, lambda name: read(head if name == embed else name)
    if np.array_equal(read(embed), read(head)):
        return arch, found - {head}, read
    _log.warning(
        "%s: tie_word_embeddings is true in config.json, but %s is not the embedding; loaded as "
        "it is, not tied",
        *(path, head),
    )
    return dataclasses.replace(arch, tied=False), found, read


def save(
    directory: str | pathlib.Path,
    arch: Arch,
    params: Params,
    tokenizer: Any = None,
    *,
    generation: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
    extra: Mapping[str, np.ndarray] | None = None,
) -> pathlib.Path:
    """Writes a Hugging Face directory that `transformers` and `load` read.

    The directory appears complete or not at all: it is written beside its place
    and then renamed. An earlier model in that place is replaced. The first process writes
    it, from all of the model on its host; all processes call this.

    Args:
      directory: to be created; its parents too.
      arch, params: as `load` returns them. The dtype written is that of `params`.
      tokenizer: a `gccpo_jax.tokenizer.Tokenizer` whose files to write as well.
      generation: fields of `generation_config.json` beside the special tokens.
      shard_bytes: weights beyond go into several files of at most so many bytes, with an index.
      extra: further tensors by name, such as those of a head (`load_headed`).

    Raises:
      UserError: the place holds something that is not a model.
    """
    tensors = to_hf_tensors(arch, params) | dict(extra or {})
    target = pathlib.Path(directory).expanduser().absolute()
    if not is_first():
        return target
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        fresh = pathlib.Path(scratch) / "new"
        fresh.mkdir()
        _write_jsons(fresh, arch, str(params["embed"].dtype), tokenizer, generation or {})
        _write_tensors(fresh, tensors, shard_bytes)
        if target.exists():
            os.rename(target, pathlib.Path(scratch) / "old")
        os.rename(fresh, target)
    return target


def _check_target(target: pathlib.Path) -> None:
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not (target / "config.json").is_file():
        raise UserError(f"{target}: exists and is not a model; choose another directory")


def _write_jsons(
    directory: pathlib.Path, arch: Arch, dtype: str, tokenizer: Any, generation: Mapping[str, Any]
) -> None:
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if tokenizer is not None:
        tokenizer.save(directory)
        special = tokenizer.special_ids()
    config = arch.to_hf() | {"torch_dtype": dtype} | special
    for name, content in (("config", config), ("generation_config", {**special, **generation})):
        (directory / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def _write_tensors(
    directory: pathlib.Path, tensors: Mapping[str, np.ndarray], shard_bytes: int
) -> None:
    """One file, or numbered ones and the index that says which tensor is in which."""
    import safetensors.numpy

    shards = shards_of(tensors, shard_bytes)
    count = len(shards)
    names = [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    for name, shard in zip([WEIGHTS] if count == 1 else names, shards, strict=True):
        safetensors.numpy.save_file(shard, directory / name, metadata={"format": "pt"})
    if count > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def shards_of(tensors: Mapping[str, np.ndarray], most: int) -> list[dict[str, np.ndarray]]:
    """Tensors in their order, cut before the one with which a part would exceed `most` bytes."""
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > most:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def to_hf_tensors(arch: Arch, params: Params) -> dict[str, np.ndarray]:
    """The parameters under their Hugging Face names and in that orientation, on the host.

    Adapters (`lora.py`) are merged into their matrices, one array at a time.
    Of several processes only the first keeps them, but all call it.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    tensors = {}
    for name, sources in hf_names(arch).items():
        _, stacked, own = name.partition("layers/")
        array = to_host(merged(params["layers"], own) if stacked else flat[name])
        rows = array if stacked else [array]
        if not is_first():
            continue
        tensors |= {s: _to_hf(s, row) for s, row in zip(sources, rows, strict=True)}
    return tensors

"""The files of a model directory: which ones are read, and under which names.

What `transformers` would take is taken, everything else is an error that names the file:
nothing that lies beside a model changes it without a word.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError, blame

Read = Callable[[str], np.ndarray]
"""A tensor by its Hugging Face name, in the orientation of a Hugging Face checkpoint."""

COPY_AGAIN = "copy it again"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_log = logging.getLogger(__name__)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_FLOATS = ("F64", "F32", "F16", "BF16")
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")
"""Parts of a name that torch.compile, FSDP, checkpointing and DataParallel put into it."""
_OUTER = ("model", "language_model", "base_model")
"""Parts before `layers`: of the plain model, of one inside a multimodal model, of peft's."""


def refuse_placeholder(file: pathlib.Path) -> None:
    """Refuses what lies in the place of a file: nothing, a Git LFS pointer or a web page.

    Raises:
      UserError: says which, and how to get the file itself.
    """
    with blame(file, COPY_AGAIN), file.open("rb") as opened:
        begin = opened.read(128).lstrip().lower()
    if begin.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{file}: a Git LFS pointer, not the file itself; run git lfs pull in its folder, or "
            "download the file"
        )
    if begin.startswith((b"<!doctype", b"<html")):
        raise UserError(f"{file}: a web page, not the file itself; download the file")


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file of a model.

    Raises:
      UserError: the file cannot be read, or holds anything else.
    """
    refuse_placeholder(file)
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON ({error}); {COPY_AGAIN}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: {type(found).__name__} instead of an object; {COPY_AGAIN}")
    return found


def weight_files(directory: pathlib.Path, named: Any = None) -> list[pathlib.Path]:
    """The safetensors files that `transformers` would take, in this order.

    `named` (field `transformers_weights` of the config), `model.safetensors`, those of the
    index, and then what has no choice in it: numbered shards without an index, or one file.

    Raises:
      UserError: none, several that could be meant, one that is missing, an adapter beside them.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if (directory / name).is_file():
            raise UserError(
                f"{directory}: {name} is an adapter (LoRA), which would be left out; merge it "
                "into the model (merge_and_unload of peft), or move it away to train without it"
            )
    if named is not None and not _is_name(named):
        raise UserError(
            f"{directory}: config field transformers_weights={named!r}: expected a file name"
        )
    index = directory / INDEX
    indexed = _of_index(index) if index.is_file() else []
    found = sorted(file.name for file in directory.glob("[!.]*.safetensors"))
    if named:
        taken = _of_index(directory / named) if named.endswith(".json") else [named]
    elif WEIGHTS in found:
        taken = [WEIGHTS]
    else:
        taken = indexed or _unnamed(directory, found)
    missing = [name for name in taken if not (directory / name).is_file()]
    if missing:
        first = directory / missing[0]
        if first.is_symlink():
            raise UserError(
                f"{first}: a link to {first.readlink()}, which is not there; download the model "
                "again"
            )
        if first.is_dir():
            raise UserError(f"{first}: a folder, not a file; copy the file")
        raise UserError(f"{directory}: {first.name} is missing ({_why(named, index)}); copy it")
    if beside := [name for name in found if name not in taken and not _is_consolidated(name)]:
        _log.warning("%s: %s read, not %s", directory, _few(taken), _few(beside))
    return [directory / name for name in taken]


def _why(named: Any, index: pathlib.Path) -> str:
    if named:
        return f"config.json: transformers_weights = {named!r}"
    return f"it is in the index {index.name}" if index.is_file() else "one of numbered shards"


def _of_index(index: pathlib.Path) -> list[str]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(map(_is_name, names.values())):
        raise UserError(f"{index}: no weight_map of file names; download the model again")
    return sorted(set(names.values()))


def _unnamed(directory: pathlib.Path, found: list[str]) -> list[str]:
    """Where neither `model.safetensors` nor an index says which files are the model."""
    files = [name for name in found if not _is_consolidated(name)]
    shards = [_SHARD.fullmatch(name) for name in files]
    if all(shards) and len({(s["stem"], s["count"]) for s in shards if s}) == 1:
        stem, count = shards[0]["stem"], shards[0]["count"]
        return [f"{stem}-{n:05}-of-{count}.safetensors" for n in range(1, int(count) + 1)]
    if len(files) == 1:
        return files
    if files:
        raise UserError(
            f"{directory}: {_few(files)}, but no {WEIGHTS} and no {INDEX} that says which of them "
            "are the model; rename or move the others away"
        )
    if found:
        raise UserError(
            f"{directory}: {found[0]} has the names of its maker, not those of transformers; "
            f"take {WEIGHTS} or the shards from the same place"
        )
    pickles = [f.name for ending in ("bin", "pt", "pth") for f in directory.glob(f"*.{ending}")]
    if pickles:
        raise UserError(
            f"{directory}: {pickles[0]} is a pickle, which runs code when opened; "
            "safetensors only: convert it, or take the safetensors version of the model"
        )
    raise UserError(f"{directory}: no *.safetensors file")


def _is_name(name: Any) -> bool:
    return type(name) is str and name != "" and pathlib.PurePath(name).name == name


def _is_consolidated(name: str) -> bool:
    return name.startswith("consolidated")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def canonical(name: str) -> str:
    """The name of a tensor as `LlamaForCausalLM` and its kin save it; others stay as they are.

    >>> canonical("_orig_mod.language_model.model.layers.0.mlp.up_proj.weight")
    'model.layers.0.mlp.up_proj.weight'
    >>> canonical("norm.weight"), canonical("module.lm_head.weight"), canonical("vision.weight")
    ('model.norm.weight', 'lm_head.weight', 'vision.weight')
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while parts and parts[0] in _OUTER:
        parts = parts[1:]
    inside = parts[:1] and parts[0] in ("embed_tokens", "layers", "norm")
    if inside or parts[:1] == ["lm_head"]:
        return ".".join(["model", *parts] if inside else parts)
    return name


@contextlib.contextmanager
def open_tensors(files: list[pathlib.Path]) -> Iterator[tuple[set[str], Read]]:
    """The canonical names of all tensors, and a function that reads one of them.

    Files stay mapped, not read.

    Raises:
      UserError: a file is damaged, a tensor is there twice or is quantised.
    """
    import safetensors

    with contextlib.ExitStack() as stack:
        owner: dict[str, tuple[pathlib.Path, str, Any]] = {}
        for file in files:
            refuse_placeholder(file)
            with blame(file, COPY_AGAIN):
                handle = stack.enter_context(safetensors.safe_open(file, "numpy"))
                stored = list(handle.keys())
            for name in stored:
                _check_type(file, name, handle)
                _add(owner, file, name, handle)

        def read(name: str) -> np.ndarray:
            file, stored, handle = owner[name]
            with blame(file, COPY_AGAIN):
                return handle.get_tensor(stored)

        yield set(owner), read


def _add(
    owner: dict[str, tuple[pathlib.Path, str, Any]], file: pathlib.Path, name: str, handle: Any
) -> None:
    other, stored, _ = owner.setdefault(canonical(name), (file, name, handle))
    if (other, stored) != (file, name):
        raise UserError(
            f"{other.parent}: one tensor twice, {stored} in {other.name} and {name} in "
            f"{file.name}; keep one of them"
        )


def _check_type(file: pathlib.Path, name: str, handle: Any) -> None:
    with blame(file, COPY_AGAIN):
        kind = handle.get_slice(name).get_dtype()
    if kind not in _FLOATS:
        raise UserError(
            f"{file}: {name} is stored as {kind}, a quantised model; take the one in bfloat16, "
            "float16 or float32, or dequantise it"
        )


def check_jsons(directory: pathlib.Path, names: Sequence[str]) -> None:
    """Reads each of the JSON files that is there, for their errors."""
    for name in names:
        if (directory / name).is_file():
            read_json(directory / name)

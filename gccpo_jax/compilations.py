"""Compiled programs are kept between runs, where they take minutes to make."""

from __future__ import annotations

import os
import pathlib

import jax


def keep_compilations() -> None:
    """Turns JAX's persistent compilation cache on, on GPU and TPU.

    The folder is `gccpo_jax/compiled` in `$XDG_CACHE_HOME` or `~/.cache`; a folder that was chosen
    before (`JAX_COMPILATION_CACHE_DIR`) stays. On CPU there is none unless it is chosen: its
    programs are made for the features of one processor, and compile in seconds.
    """
    if jax.config.jax_compilation_cache_dir or jax.default_backend() == "cpu":
        return
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(home / "gccpo_jax" / "compiled"))

"""Where compiled programs are kept between runs."""

import jax
import pytest

from gccpo_jax.runtime.sharding import keep_compilations


@pytest.fixture(autouse=True)
def restored():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(
    ("backend", "chosen", "kept"),
    [("cpu", None, None), ("gpu", None, "gccpo_jax/compiled"), ("tpu", "there", "there")],
)
def test_the_folder(monkeypatch, tmp_path, backend, chosen, kept):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", chosen)
    keep_compilations()
    if kept == "gccpo_jax/compiled":
        kept = str(tmp_path / kept)
    assert jax.config.jax_compilation_cache_dir == kept

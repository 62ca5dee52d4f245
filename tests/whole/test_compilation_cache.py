"""Where compiled programs are kept between runs, and that a damaged one is compiled anew."""

import os
import subprocess
import sys

import jax
import pytest

from gccpo_jax.runtime.sharding import keep_compilations, processor_features
from tests.helpers.processes import environment

HERE = f"gccpo_jax/compiled/cpu-{processor_features()}"

LEAST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


@pytest.fixture(autouse=True)
def restored():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(
    ("backend", "chosen", "kept"),
    [
        ("cpu", None, HERE),
        ("cpu", "there", "there"),
        ("gpu", None, "gccpo_jax/compiled"),
        ("tpu", "there", "there"),
    ],
)
def test_the_folder(monkeypatch, tmp_path, backend, chosen, kept):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", chosen)
    keep_compilations()
    if chosen is None:
        kept = str(tmp_path / kept)
        assert os.path.isdir(kept)
    assert jax.config.jax_compilation_cache_dir == kept


@pytest.mark.parametrize("chosen", [None, "there"])
@pytest.mark.parametrize(("asked", "least"), [(None, 0.0), ("2", 2.0)])
def test_programs_that_compile_quickly_are_kept_too(monkeypatch, tmp_path, chosen, asked, least):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(LEAST, raising=False)
    if asked:
        monkeypatch.setenv(LEAST, asked)
    jax.config.update("jax_compilation_cache_dir", chosen)
    jax.config.update(LEAST.lower(), float(asked or 1))  # as JAX starts
    keep_compilations()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == least


def test_where_nothing_can_be_kept_a_run_compiles(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    jax.config.update("jax_compilation_cache_dir", None)
    keep_compilations()
    assert jax.config.jax_compilation_cache_dir is None


def test_another_processor_has_another_folder(tmp_path):
    info = tmp_path / "cpuinfo"
    names = set()
    for text in ("flags : avx2\n", "flags : avx2 avx512f\n", "Features : asimd\n"):
        info.write_text(f"processor : 0\nMHz : 1\n{text}processor : 1\nMHz : 2\n{text}")
        names.add(processor_features(info))
        info.write_text(f"processor : 0\nMHz : 3\n{text}")
        names.add(processor_features(info))  # neither their number nor their clock counts
    assert len(names) == 3
    assert processor_features(tmp_path / "none") == processor_features(tmp_path / "none")


PROGRAM = """
import collections, pathlib, warnings
import jax, jax.numpy as jnp
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from gccpo_jax.runtime.sharding import keep_compilations

keep_compilations()
heard = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: heard.update([event.split("/")[-1]]))
x = jnp.arange(8.0)

def told():
    jax.clear_caches()
    reset_cache()
    heard.clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(x)
    return float(found), heard["cache_hits"], len(said)

results = [told(), told()]
for file in pathlib.Path(jax.config.jax_compilation_cache_dir).glob("*-cache"):
    file.write_bytes(file.read_bytes()[:-20])
results.append(told())
print(results)
"""


def test_a_program_is_read_again_and_a_damaged_one_is_compiled(tmp_path):
    env = environment() | {"XDG_CACHE_HOME": str(tmp_path)}
    for name in [name for name in env if name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))]:
        del env[name]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    (value, *first), second, damaged = eval(done.stdout)
    assert first == [0, 0] and second == (value, 1, 0), "compiled, then read"
    assert damaged == (value, 0, 1), "said, and compiled"

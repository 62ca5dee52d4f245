"""Ctrl-C while a command imports what it needs: one line and exit code 130."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.processes import environment

MOMENTS = [
    *(("train", module) for module in ("gccpo_jax", "numpy", "jax._src.core", "optax")),
    *((name, "numpy") for name in ("sft", "analyse", "plan", "presets", "cost", "study")),
    *((name, "numpy") for name in ("evaluate", "export", "chat", "report", "variance")),
]


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """What a shell starts in the background ignores Ctrl-C, and so would what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(words, module, folder):
    """Exit code and what is said beside import times, of a command interrupted after an import."""
    started = subprocess.Popen(
        [sys.executable, "-X", "importtime", *words], cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said = []
    for line in started.stderr:
        said.append(line)
        if line.startswith("import time:") and line.split("|")[-1].strip() == module:
            os.kill(started.pid, signal.SIGINT)
            break
    out, rest = started.communicate(timeout=60)
    said += rest.splitlines(keepends=True)
    return started.returncode, out + "".join(x for x in said if not x.startswith("import time:"))


@pytest.mark.parametrize(("command", "module"), MOMENTS)
def test_a_command_that_imports_ends_with_one_line(command, module, tmp_path):
    words = ["-m", f"gccpo_jax.{command}", "--config", "x.py"]
    assert interrupted(words, module, tmp_path) == (130, "interrupted\n")


def handler_in(words, folder):
    code = "import gccpo_jax, signal; print(signal.getsignal(2) is signal.default_int_handler)"
    (folder / "other").mkdir()
    (folder / "other" / "__init__.py").write_text("import gccpo_jax\n")
    (folder / "other" / "__main__.py").write_text(code + "\n")
    words = [code if word == "CODE" else word for word in words]
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.parametrize(
    "words", [["-c", "CODE"], ["-m", "other"], ["-m", "other", "-m", "gccpo_jax.train"]], ids=str
)
def test_who_imports_the_package_keeps_the_handler(words, tmp_path):
    assert handler_in(words, tmp_path) == "True"

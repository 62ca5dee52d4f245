"""Miniature runs in processes of their own, and how two of them compare."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

CONFIG = """
from gccpo_jax import config
def get_config():
    c = config.default()
    c.steps, c.batch_size, c.group_size = 4, 2, 4
    c.data.max_prompt_tokens, c.sampling.max_tokens = 44, 40
    c.task.options.update(train=40, id=6, ood=4, max_operations=3)
    c.eval.questions, c.eval.ood_questions, c.eval.batch, c.eval.max_prompt_tokens = 4, 0, 4, 60
    c.credit.kind, c.objective.beta, c.optim.epochs = "outcome", 0.0, 2
    c.checkpoint.every, c.checkpoint.keep = 1, 4
    c.log.rollouts_every, c.log.tensorboard = 0, False
    return c
"""
STEPS = 4
SECONDS = 600  # for one process, on a machine that is busy with others
HERE = pathlib.Path(__file__).parent


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    said: str  # standard output and error

    def line(self, *words: str) -> str:
        """The last line that holds all of them, else the last line."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        found = [line for line in lines if all(word in line for word in words)]
        return (found or lines or [""])[-1]


class Lab:
    """A folder of runs that share a configuration and what is compiled for it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.config = folder / "mini.py"
        self.config.write_text(CONFIG)
        self.whole = folder / "whole"
        path = [str(HERE), os.environ.get("PYTHONPATH", "")]
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }

    def make_reference(self) -> None:
        """The run that nothing happens to."""
        done = self.run(self.whole)
        if done.code:
            raise SystemExit(f"the run without a fault ended with {done.code}:\n{done.said}")

    def start(self, workdir: pathlib.Path, *more: str, patch: str = "") -> subprocess.Popen:
        """Starts a run, with a patch of `fault_patches.py` if one is named."""
        program = [str(HERE / "fault_patches.py"), patch] if patch else ["-m", "gccpo_jax.train"]
        words = [sys.executable, *program, "--config", str(self.config), "--workdir", str(workdir)]
        return subprocess.Popen(
            [*words, *more],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, workdir: pathlib.Path, *more: str, patch: str = "") -> Ended:
        """A run from its start to its end."""
        return finish(self.start(workdir, *more, patch=patch))

    def resume(self, workdir: pathlib.Path, *more: str) -> Ended:
        return self.run(workdir, "--resume", *more)

    def copy(self, name: str) -> pathlib.Path:
        """A copy of the finished run."""
        return pathlib.Path(shutil.copytree(self.whole, self.folder / name))

    def lost(self, workdir: pathlib.Path, like: pathlib.Path | None = None) -> tuple[str, bool]:
        """What differs from the run without a fault, in words, and whether anything does."""
        ours, theirs = metrics(workdir), metrics(like or self.whole)
        if ours == theirs:
            return "nothing: gone on with, it is the run without the fault, bit by bit", False
        steps = [a.get("step") for a, b in zip(ours, theirs, strict=False) if a != b]
        return f"NOT THE SAME: {len(ours)} of {len(theirs)} steps, other from {steps[:1]}", True

    def show(self, line: str) -> str:
        """A line for a cell of a table: without what differs from run to run, and not too long."""
        line = line.replace(f"{self.folder}/", "").replace(str(self.folder), ".").replace("|", "/")
        line = line.replace(sys.executable, "python")
        line = re.sub(r"process \d+ on [\w.-]+", "process 4711 on host", line)
        line = re.sub(r"[0-9a-f]{32}", "7c3f...", line)
        return f"`{line if len(line) <= 170 else line[:120] + ' ... ' + line[-45:]}`"


def finish(process: subprocess.Popen) -> Ended:
    """Waits for its end."""
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return Ended(-1, f"{said}\nno end after {SECONDS} s")
    return Ended(process.returncode, said)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen) -> None:
    """Waits until it holds, or the process has ended."""
    end = time.monotonic() + SECONDS
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)


def steps_done(workdir: pathlib.Path) -> int:
    file = workdir / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return sum('"step": 0' not in line for line in lines)


def metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The steps of metrics.jsonl without times, NaN made equal to itself."""
    file = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    timed = ("_seconds", "_per_second")
    return [
        {k: repr(v) for k, v in row.items() if not k.endswith(timed)} for row in rows if row["step"]
    ]


def saved(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Finished checkpoints, the newest last."""
    found = (path for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())
    return sorted(found, key=lambda path: int(path.name))


def largest(folder: pathlib.Path) -> pathlib.Path:
    files = (file for file in folder.rglob("*") if file.is_file())
    return max(files, key=lambda file: file.stat().st_size)


def command(line: str) -> list[str]:
    """The command that a run which was asked to end says how to go on with."""
    return shlex.split(line.partition("go on with: ")[2])

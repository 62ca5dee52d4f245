"""Runs in processes of their own, as a user starts them; a configuration that is small."""

import os
import socket
import subprocess
import sys
import time

OUTCOME = """
from gccpo_jax import config
def get_config():
    c = config.default()
    c.steps, c.batch_size, c.group_size = 6, 2, 4
    c.data.max_prompt_tokens, c.sampling.max_tokens = 44, 40
    c.task.options.update(train=40, id=6, ood=4, max_operations=3)
    c.eval.questions, c.eval.ood_questions, c.eval.batch, c.eval.max_prompt_tokens = 4, 0, 4, 60
    c.credit.kind, c.objective.beta, c.optim.epochs = "outcome", 0.0, 2
    c.checkpoint.every, c.log.rollouts_every, c.log.tensorboard = 0, 0, False
    return c
"""
COMMANDS = {"train": [], "sft": ["--config.sampling.max_tokens=48"]}


def start(command, directory, workdir, *more, program=None, variables=None):
    """The miniature in a process of its own; `program` in place of `-m gccpo_jax.<command>`."""
    file = directory / "mini.py"
    file.write_text(OUTCOME)
    words = [sys.executable, *(program or ["-m", f"gccpo_jax.{command}"]), "--config", str(file)]
    words += [*COMMANDS[command], *more, *(["--workdir", str(workdir)] if workdir else [])]
    return subprocess.Popen(
        words, cwd=directory, env=environment() | (variables or {}), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def environment():
    """This process's, and the package found from any folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def lines(workdir):
    """Steps in metrics.jsonl that are done."""
    file = workdir / "metrics.jsonl"
    done = file.read_text().split("\n")[:-1] if file.exists() else []
    return sum('"step": 0' not in line for line in done)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


def free_port():
    with socket.socket() as opened:
        opened.bind(("localhost", 0))
        return opened.getsockname()[1]


def flags(port, process, count=2):
    where = f"localhost:{port}"
    return ["--processes", str(count), "--process", str(process), "--coordinator", where]


def ended(processes, seconds=240):
    """Exit codes and what was said on stderr, without what Gloo says."""
    said = [process.communicate(timeout=seconds)[1] for process in processes]
    return [process.returncode for process in processes], said

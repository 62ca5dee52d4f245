"""A run that a signal ends has saved its last step, says how to go on, and goes on exactly."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from gccpo_jax.runtime import cli
from gccpo_jax.runtime.signals import SIGNALS, Preempted, Signals
from tests.helpers.processes import OUTCOME, environment, lines, start, wait_for
from tests.helpers.runs import metrics


@pytest.fixture
def handlers():
    """Handlers of the test's own, so that a second signal does not end the tests."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_acts(handlers, number):
    with Signals() as signals:
        assert signals.received == 0
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert all(signal.getsignal(each) is signal.SIG_DFL for each in SIGNALS)


TWICE = """
import os, signal, sys
from gccpo_jax.runtime.signals import Signals
with Signals():
    os.kill(os.getpid(), signal.SIGINT)
    print("first", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("second")
"""


def test_a_second_signal_ends_the_process_at_once():
    done = subprocess.run(
        [sys.executable, "-c", TWICE], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "first\n"), done.stderr


def test_the_command_line_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def run(*_):
        raise Preempted(signal.SIGTERM, 7)

    (tmp_path / "mini.py").write_text(OUTCOME)
    words = ["--config", f"{tmp_path}/mini.py", "--config.task.options.shortcut=a b"]
    for more in ([], ["--workdir", "runs/x"], ["--resume", "--workdir=runs/x"]):
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "gccpo_jax.train", *words, *more])
        assert cli.main(run, "test", [*words, *more]) == 143
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "SIGTERM: stopped after step 7, saved" in said
        command = shlex.split(said.partition("go on with: ")[2])
        assert command[:3] == ["python", "-m", "gccpo_jax.train"]
        frozen, name, workdir, resume = cli.parse("test", command[3:])
        assert resume and name == "mini" and frozen.task.options["shortcut"] == "a b"
        assert str(workdir) == "runs/x" if more else workdir.parent.name == "runs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("train", signal.SIGTERM, 143), ("sft", signal.SIGINT, 130)],
    ids=["train-SIGTERM", "sft-SIGINT"],
)
def test_a_preempted_run_goes_on_as_if_nothing_had_happened(tmp_path, command, number, code):
    whole = start(command, tmp_path, tmp_path / "whole")
    _, said = whole.communicate(timeout=200)
    assert whole.returncode == 0, said
    part = start(command, tmp_path, None)
    runs = tmp_path / "runs"
    wait_for(lambda: any(lines(path) for path in runs.glob("*")), part)
    part.send_signal(number)
    _, said = part.communicate(timeout=100)
    assert part.returncode == code
    (workdir,) = runs.iterdir()
    done = lines(workdir)
    assert 0 < done < 6, "in the middle"
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == [str(done)]
    assert f"stopped after step {done}, saved; go on with: " in said.splitlines()[-1]
    resume = shlex.split(said.splitlines()[-1].partition("go on with: ")[2])
    again = subprocess.run(
        resume, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=200
    )
    assert again.returncode == 0, again.stderr
    assert f"resumed after step {done}" in again.stdout
    assert metrics(workdir) == metrics(tmp_path / "whole")
    ours, theirs = ((path / "summary.json").read_text() for path in (workdir, tmp_path / "whole"))
    assert json.loads(ours) == json.loads(theirs)
    ours, theirs = (
        (path / "policy/model.safetensors").read_bytes() for path in (workdir, tmp_path / "whole")
    )
    assert ours == theirs

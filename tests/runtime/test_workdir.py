"""One run in a working directory; the lock of a process that is dead does not stop the next."""

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.runtime.workdir import LOCK, claim_workdir, locked, output_path
from tests.helpers.processes import environment
from tests.helpers.runs import small

HOLD = """
import pathlib, sys, time
from gccpo_jax.runtime.workdir import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], env=environment(),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path, holder):
    who = f"process {holder.pid} on {re.escape(socket.gethostname())} runs in it"
    with pytest.raises(UserError, match=who), locked(tmp_path):
        pass
    with pytest.raises(UserError, match=who), claim_workdir(tmp_path, small(), resume=False):
        pass
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {LOCK, ".lock"}, "no config of a refused run"


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, holder, capsys):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        held = json.loads((tmp_path / LOCK).read_text())
        assert held == {"pid": os.getpid(), "host": socket.gethostname()}
    said = capsys.readouterr().err
    assert f"taken over from process {holder.pid} on " in said and said.count("\n") == 1


def test_a_lock_that_was_given_back_leaves_nothing_to_say(tmp_path, capsys):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), locked(tmp_path):
            raise KeyboardInterrupt
    assert (tmp_path / LOCK).read_text() == "" and capsys.readouterr().err == ""


def test_two_locks_of_one_process_exclude_each_other(tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"):
        with locked(tmp_path):
            pass


def test_a_file_system_without_locks_is_named_and_used(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path):
        assert "no locks here" in capsys.readouterr().err


def test_a_claim_is_given_back_and_resumed(tmp_path):
    with claim_workdir(tmp_path, small(), resume=False):
        pass
    with pytest.raises(UserError, match="holds this run already"):
        with claim_workdir(tmp_path, small(), resume=False):
            pass
    with claim_workdir(tmp_path, small(), resume=True):
        pass
    with pytest.raises(UserError, match="another config"):
        with claim_workdir(tmp_path, small(seed=5), resume=True):
            pass


def test_a_run_may_show_other_things_when_it_resumes(tmp_path):
    with claim_workdir(tmp_path, small(), resume=False):
        pass
    other = small(log__rollouts=1, mesh__data=2, policy__attention="cudnn")
    with claim_workdir(tmp_path, other, resume=True):
        kept = json.loads((tmp_path / "config.json").read_text())
        assert (kept["log"]["rollouts"], kept["mesh"]["data"]) == (1, 2)
        assert kept["policy"]["attention"] == "cudnn"
    with pytest.raises(UserError, match="another config"):
        with claim_workdir(tmp_path, small(policy__dtype="bfloat16"), resume=True):
            pass


@pytest.mark.parametrize(
    ("name", "says"),
    [("exp[1]", "["), ("a*/run", "*"), ("what?", "?"), ("a\\b", "\\"), ("~/run", "expanduser")],
)
def test_a_place_that_would_not_be_found_again_is_refused(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    where = type(tmp_path)(name)
    with (
        pytest.raises(UserError, match=re.escape(says)),
        claim_workdir(where, small(), resume=False),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_paths_are_expanded_once_and_addresses_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_path("~/run") == tmp_path / "run"
    for text in ("gs://bucket/run", "s3://bucket", "~nobody-of-this-name/run"):
        with pytest.raises(UserError, match=re.escape(text)):
            output_path(text)


def test_a_path_that_the_shell_did_not_fill_in_is_refused(monkeypatch):
    monkeypatch.setenv("RUNS", "/data")
    for text, said in (("", "it is empty"), (" ", "it is empty"), ("$RUNS/a", "give /data/a")):
        with pytest.raises(UserError, match=said):
            output_path(text)
    assert str(output_path("$NOBODY_OF_THIS_NAME/a")) == "$NOBODY_OF_THIS_NAME/a"


def test_nothing_to_resume_where_the_name_is_too_long(tmp_path):
    with (
        pytest.raises(UserError, match="nothing to resume"),
        claim_workdir(tmp_path / ("x" * 300), small(), resume=True),
    ):
        pass


def test_a_finished_run_may_have_more_steps_where_learning_rates_stay(tmp_path):
    def again(**changes):
        with claim_workdir(tmp_path, small(optim__warmup=2, **changes), resume=True):
            return json.loads((tmp_path / "config.json").read_text())["steps"]

    with claim_workdir(tmp_path, small(optim__warmup=2), resume=False):
        pass
    assert again(steps=7) == 7 and again(steps=7) == 7
    with pytest.raises(UserError, match="config.steps: 7 there, 4 here"):
        again(steps=4)
    with pytest.raises(UserError, match="config.seed: 0 there, 5 here"):
        again(steps=9, seed=5)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_a_schedule_that_ends_keeps_its_steps(tmp_path, decay):
    with claim_workdir(tmp_path, small(optim__decay=decay), resume=False):
        pass
    with pytest.raises(
        UserError, match=f"config.steps = 7, and 4 there.*{decay}.* depends on the number"
    ):
        with claim_workdir(tmp_path, small(optim__decay=decay, steps=7), resume=True):
            pass

"""A disk that is full, read-only or gone ends a run with one line, and nothing half-written
is read later as whole."""

import json
import shutil
import subprocess
import threading

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.runtime.checkpoints import Checkpoints, complete, set_damaged_aside
from gccpo_jax.runtime.log import RunLog
from gccpo_jax.runtime.workdir import write_json, writing
from tests.helpers.checkpoints import restored, state
from tests.helpers.processes import lines, start, wait_for
from tests.helpers.runs import metrics, records


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, and a function that mounts it again in another way."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        words = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        return subprocess.run(words, capture_output=True).returncode == 0

    if not mount("size=200k"):
        pytest.skip("this user cannot mount a disk")
    yield place, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(log, start, count=10_000):
    """Logs steps until one fails; the number of the failed one."""
    for step in range(start, start + count):
        try:
            log.step(step, {"loss": 0.5, "text": "x" * 997}, "")
        except UserError as error:
            return step, str(error)
    raise AssertionError("nothing failed")


# What could not be flushed is tried again when the objects are collected, by others' code.
LEFT_OVER = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@LEFT_OVER
@pytest.mark.parametrize("tensorboard", [False, True])
def test_metrics_on_a_full_disk(disk, tensorboard):
    """The line that did not fit is cut off when the run goes on."""
    place, remount = disk
    log = RunLog(place, 10**6, tensorboard)
    failed, said = fill(log, 1)
    assert f"{place}/metrics.jsonl: could not write metrics (No space left on device)" in said
    with pytest.raises(UserError):
        log.close()  # what did not fit is still in its buffer
    text = (place / "metrics.jsonl").read_text()
    assert tensorboard or not text.endswith("\n"), "half a line"
    assert remount("size=2m")
    log = RunLog(place, 10**6, tensorboard, resume_step=failed - 1)
    log.step(failed, {"loss": 0.5}, "")
    log.close()
    assert [row["step"] for row in metrics(place)] == list(range(1, failed + 1))


def test_metrics_in_a_folder_that_is_gone(tmp_path):
    place = tmp_path / "run"
    place.mkdir()
    log = RunLog(place, 5, False)
    log.step(1, {}, "")
    shutil.rmtree(place)
    with pytest.raises(UserError, match="could not write metrics .No such file"):
        log.step(2, {}, "")
    log.close()


def test_cutting_the_metrics_does_not_lose_them_on_a_full_disk(disk):
    place, _ = disk
    log = RunLog(place, 5, False)
    log.step(1, {"text": "x" * 120_000}, "")
    log.close()
    with pytest.raises(UserError, match="metrics"):
        RunLog(place, 5, False, resume_step=1)
    assert [row["step"] for row in metrics(place)] == [1]
    assert [path.name for path in place.iterdir()] == ["metrics.jsonl"]


def test_json_is_the_old_or_the_new_one(disk):
    place, remount = disk
    write_json(place / "a.json", {"a": 1})
    with pytest.raises(UserError, match="could not write x .No space"), writing("x", place):
        write_json(place / "a.json", {"a": "x" * 300_000})
    assert json.loads((place / "a.json").read_text()) == {"a": 1}
    assert remount("ro")
    with pytest.raises(UserError, match="could not write x .Read-only"), writing("x", place):
        write_json(place / "a.json", {"a": 2})
    assert json.loads((place / "a.json").read_text()) == {"a": 1}
    assert remount("rw")


@LEFT_OVER
@pytest.mark.parametrize("fault", ["size=200k", "ro"])
def test_checkpoints_on_a_full_or_read_only_disk(disk, fault):
    """The one that failed is none; the ones before it are whole."""
    place, remount = disk
    before = set(threading.enumerate())
    saved = place / "checkpoints"
    checkpoints = Checkpoints(saved, keep=100)
    checkpoints.save(1, state(1), {})
    checkpoints._manager.wait_until_finished()
    assert remount(fault)
    said = "could not write a checkpoint .*(No space left|Read-only).*--resume"
    with pytest.raises(UserError, match=said):
        for step in range(2, 30):
            checkpoints.save(step, state(step), {})
    checkpoints.close()
    waiting = {t for t in threading.enumerate() if not t.daemon} - before
    for thread in waiting:
        thread.join(5)  # one that waits for ever keeps the process from ending
    assert not any(thread.is_alive() for thread in waiting), waiting
    assert remount("rw,size=2m")
    whole = complete(saved)
    assert set_damaged_aside(saved) == [] and complete(saved) == whole
    step, found, _ = restored(saved)
    assert int(found.step) == step == int(whole[-1].name)


def test_tensorboard_has_every_number(tmp_path):
    log = RunLog(tmp_path, 5, True, resume_step=2)
    log.step(3, {"loss": 0.5, "count": 2, "said": "hello"}, "")
    log.close()
    version, began, event = records(next((tmp_path / "tensorboard").iterdir()))
    assert version.file_version == "brain.Event:2"
    assert (began.step, began.session_log.status) == (3, began.session_log.START)
    assert event.step == 3 and event.wall_time > 1e9
    assert {v.tag: v.simple_value for v in event.summary.value} == {"loss": 0.5, "count": 2.0}


@pytest.mark.slow
def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(disk):
    place, remount = disk
    assert remount("size=20m")
    options = ["--config.checkpoint.every=1", "--config.checkpoint.keep=100"]
    whole = start("sft", place.parent, place.parent / "whole", *options)
    _, said = whole.communicate(timeout=200)
    assert whole.returncode == 0, said
    used = sum(f.stat().st_size for f in (place.parent / "whole").rglob("*") if f.is_file())
    assert remount(f"size={used * 2 // 5}")
    part = start("sft", place.parent, place / "run", *options)
    wait_for(lambda: lines(place / "run"), part)
    _, said = part.communicate(timeout=200)
    assert part.returncode == 2
    last = said.splitlines()[-1]
    assert last.startswith(f"error: {place}/run") and "No space left" in last
    good = complete(place / "run/checkpoints")[-1]
    assert f"(last good checkpoint: {good})" in last
    assert remount(f"size={used * 3}")
    again = start("sft", place.parent, place / "run", *options, "--resume")
    _, said = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert metrics(place / "run") == metrics(place.parent / "whole")

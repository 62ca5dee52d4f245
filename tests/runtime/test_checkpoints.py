"""Checkpoints: restored bit by bit, and one that is damaged is never taken for a whole one."""

import asyncio
import dataclasses
import gc
import json
import shutil
import subprocess
import types

import jax
import numpy as np
import pytest

from gccpo_jax import sft, train
from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.runtime.checkpoints import (
    ACCURACY,
    NAME,
    Checkpoints,
    NewestAndBest,
    complete,
    damage,
    missing,
    set_damaged_aside,
)
from gccpo_jax.training.loop import best_checkpoint
from gccpo_jax.training.run import Run, last_good
from tests.helpers.checkpoints import restored, state
from tests.helpers.runs import metrics, small


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 2 and 3; that of step 1 was not kept."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(directory, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step), {"position": step})
    checkpoints.close()
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def largest(directory):
    return max((f for f in directory.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def flip(file, part=0.5):
    data = bytearray(file.read_bytes())
    data[int(part * len(data))] ^= 1
    file.write_bytes(bytes(data))


def test_whole_checkpoints_are_left_alone(copy):
    assert sorted(path.name for path in copy.iterdir()) == ["2", "3"]
    assert set_damaged_aside(copy) == [] and set_damaged_aside(copy / "none") == []
    step, found, position = restored(copy)
    assert step == 3 and position == {"position": 3}
    jax.tree.map(np.testing.assert_array_equal, found, state(3))


def test_a_save_that_is_not_complete_is_never_sealed(tmp_path):
    """Orbax takes the brackets for a pattern and merges nothing: there is no manifest."""
    checkpoints = Checkpoints(tmp_path / "exp[1]", keep=2)
    checkpoints.save(1, state(1), {})
    with pytest.raises(UserError, match="not complete: .* cannot be read back"):
        checkpoints.close()
    assert complete(tmp_path / "exp[1]") == [] and not list(tmp_path.rglob(NAME))


def test_what_a_manifest_lacks_is_named(copy):
    assert missing(copy / "3" / "state") is None
    described = copy / "3" / "state" / "_METADATA"
    described.write_text(described.read_text().replace('"key": "w"', '"key": "u"'))
    assert missing(copy / "3" / "state") == "params.u"


def not_finite(step):
    found = state(step)
    params = {**found.params, "b": found.params["b"].at[1].set(np.nan)}
    return dataclasses.replace(found, params=params)


def test_a_state_that_is_not_finite_is_not_saved(copy):
    checkpoints = Checkpoints(copy, keep=2)
    with pytest.raises(UserError, match="step 4: the training state is not finite and was not"):
        checkpoints.save(4, not_finite(4), {})
    checkpoints.close()
    assert [path.name for path in complete(copy)] == ["2", "3"]


def test_a_checkpoint_that_is_not_finite_is_never_the_last_good_one(copy, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("gccpo_jax.runtime.checkpoints.all_finite", lambda _: True)
        checkpoints = Checkpoints(copy, keep=3)
        checkpoints.save(4, not_finite(4), {})
        checkpoints.close()
    with pytest.raises(UserError, match=r"checkpoint 4 is damaged \(it is not finite\)"):
        restored(copy)
    assert last_good(copy) == str(copy / "3") and restored(copy)[0] == 3


def test_the_checksums_are_those_of_sha256sum(copy):
    listed = subprocess.run(["sha256sum", "-c", NAME], cwd=copy / "3", capture_output=True)
    assert listed.returncode == 0 and b"state/" in listed.stdout and b"position/" in listed.stdout


def test_every_damaged_file_is_found(copy):
    """One bit of each file; half of it; all of it; the file itself."""
    folders = ("state", "position")
    files = [f for name in folders for f in (copy / "3" / name).rglob("*") if f.is_file()]
    files.append(copy / "3" / NAME)
    assert len(files) > 5
    for file in files:
        data = file.read_bytes()
        assert damage(copy / "3") is None
        flip(file)
        assert damage(copy / "3")
        for size in (len(data) // 2, 0):
            file.write_bytes(data[:size])
            assert not data or damage(copy / "3"), file
        file.unlink()
        assert damage(copy / "3")
        file.write_bytes(data)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(copy):
    flip(largest(copy / "3"))
    (line,) = set_damaged_aside(copy)
    assert "checkpoint 3 is damaged" in line and "going on from checkpoint 2" in line
    step, found, position = restored(copy)
    assert step == 2 and position == {"position": 2}
    jax.tree.map(np.testing.assert_array_equal, found, state(2))
    for _ in range(2):  # the step is made again, and may be damaged again
        checkpoints = Checkpoints(copy, keep=2)
        checkpoints.save(3, state(3), {})
        checkpoints.close()
        assert restored(copy)[0] == 3
        flip(largest(copy / "3"))
        assert len(set_damaged_aside(copy)) == 1


def test_a_folder_without_a_whole_checkpoint_is_refused(copy):
    flip(largest(copy / "3"))
    (copy / "2" / "position" / "metadata").unlink()
    with pytest.raises(
        UserError, match=f"{copy}: no checkpoint in it is whole .*another --workdir"
    ):
        set_damaged_aside(copy)
    assert sorted(path.name for path in copy.iterdir()) == ["2", "3"], "nothing was touched"


def test_a_checkpoint_whose_checksums_cannot_be_written_is_none(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, state(1), {})
    checkpoints.close()
    monkeypatch.setattr("gccpo_jax.runtime.checkpoints.seal", full)
    checkpoints = Checkpoints(tmp_path, keep=2)
    with pytest.raises(UserError, match="could not write a checkpoint .No space left"):
        checkpoints.save(2, state(2), {})
        checkpoints.close()
    monkeypatch.undo()
    assert restored(tmp_path)[0] == 1


ACCURACIES = {1: 0.25, 2: 0.75, 3: None, 4: 0.5, 5: 0.75, 6: 0.125, 7: None}


def kept(directory):
    return [int(path.name) for path in complete(directory)]


def save_all(directory, steps, **options):
    for step in steps:  # a life each: what is best is known only from the disk
        checkpoints = Checkpoints(directory, **options)
        checkpoints.save(step, state(step), {"position": step}, ACCURACIES[step])
        checkpoints.close()


@pytest.mark.parametrize(
    ("keep", "keep_best", "steps"),
    [
        (1, 0, [7]),
        (1, 1, [5, 7]),
        (1, 2, [2, 5, 7]),
        (2, 3, [2, 4, 5, 6, 7]),
        (5, 1, [3, 4, 5, 6, 7]),
    ],
)
def test_the_newest_and_the_best_are_kept(keep, keep_best, steps):
    """Of equals the newer one; those that were not evaluated only while they are new."""
    policy = NewestAndBest(keep, keep_best)
    found = []
    for step, accuracy in ACCURACIES.items():
        metrics = {} if accuracy is None else {ACCURACY: accuracy}
        found.append(types.SimpleNamespace(step=step, metrics=metrics))
        flags = policy.should_preserve(found, context=None)
        found = [info for info, stays in zip(found, flags, strict=True) if stays]
    assert [info.step for info in found] == steps


def test_the_best_are_known_when_a_run_resumes(tmp_path):
    save_all(tmp_path, range(1, 8), keep=1, keep_best=2)
    assert kept(tmp_path) == [2, 5, 7]
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best=2)
    assert checkpoints.accuracies() == {2: 0.75, 5: 0.75, 7: None}
    assert checkpoints.latest == 7, "not the best"
    checkpoints.close()


def test_a_damaged_best_gives_its_place_to_another(tmp_path):
    save_all(tmp_path, range(1, 6), keep=2, keep_best=1)
    assert kept(tmp_path) == [4, 5]
    save_all(tmp_path, [6], keep=2, keep_best=1)
    flip(tmp_path / "5/metrics/metrics")
    (line,) = set_damaged_aside(tmp_path)
    assert "checkpoint 5 is damaged (metrics/metrics differs" in line and "5.damaged" in line
    assert kept(tmp_path) == [6]
    save_all(tmp_path, [7], keep=1, keep_best=1)
    assert kept(tmp_path) == [6, 7]


class Killed(Exception):
    """Stands for a process that ends between two steps."""


def test_a_run_keeps_its_best_and_says_which_it_is(tmp_path, monkeypatch, capsys):
    """Killed after the second of four steps; then the best is damaged."""
    # Before, steps 1 to 3, after, once more after; of step 3 half could not be scored.
    measured = iter([0.1, 0.9, 0.5, 1.0, 0.7, 0.7])
    finish_step = Run.finish_step

    def die(self, config, step, *rest):
        finish_step(self, config, step, *rest)
        if step == 2:
            raise Killed

    def evaluate(*_):
        value = next(measured)
        return {"id": value, "id_unscorable": 0.5 if value == 1.0 else 0.0}

    monkeypatch.setattr("gccpo_jax.training.loop.evaluate", evaluate)
    c = small(
        sampling__max_tokens=48, eval__every=1, checkpoint__every=0, checkpoint__keep=1,
        checkpoint__keep_best=1,
    )  # fmt: skip
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "finish_step", die)
        sft.fine_tune(c, "small", run)
    assert kept(run / "checkpoints") == [1, 2]
    summary = sft.fine_tune(c, "small", run, resume=True)
    assert kept(run / "checkpoints") == [1, 4]
    assert summary["best"] == {"step": 1, "id": 0.9, "checkpoint": "checkpoints/1"}
    assert summary == json.loads((run / "summary.json").read_text())
    assert f"best checkpoint: {run}/checkpoints/1, eval/id 90.0%" in capsys.readouterr().out
    flip(largest(run / "checkpoints/1"))
    summary = sft.fine_tune(c, "small", run, resume=True)
    assert summary["best"]["step"] == 4 and summary["best"]["id"] == 0.7
    said = capsys.readouterr().out
    assert "checkpoint 1 is damaged" in said and "kept as 1.damaged" in said


def test_a_best_that_was_damaged_since_is_not_named(tmp_path, monkeypatch):
    """During the run itself: found when it ends."""
    save_all(tmp_path / "checkpoints", [1, 2, 3], keep=3, keep_best=1)
    flip(largest(tmp_path / "checkpoints/2"))
    checkpoints, said = Checkpoints(tmp_path / "checkpoints", keep=3, keep_best=1), []
    run = types.SimpleNamespace(checkpoints=checkpoints, log=types.SimpleNamespace(say=said.append))
    found = best_checkpoint(small(steps=3), run, tmp_path, 0.125)
    checkpoints.close()
    assert found == {"step": 1, "id": 0.25, "checkpoint": "checkpoints/1"}
    assert "checkpoint 2 is damaged" in said[0] and len(said) == 2


def test_a_checkpoint_that_was_being_deleted_is_deleted(saved, tmp_path):
    """Whichever of its files had gone."""
    names = [file.relative_to(saved / "2") for file in (saved / "2").rglob("*") if file.is_file()]
    for number, name in enumerate(names):
        directory = tmp_path / str(number)
        shutil.copytree(saved, directory)
        (directory / "2" / name).unlink()
        assert set_damaged_aside(directory) == []
        assert restored(directory)[0] == 3
        checkpoints = Checkpoints(directory, keep=2)
        checkpoints.save(4, state(4), {})
        checkpoints.close()
        assert kept(directory) == [3, 4], name


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path, capsys):
    """Bit by bit the run that was not damaged."""
    c = small(credit__kind="outcome", objective__beta=0.0, eval__ood_questions=0, steps=3,
              checkpoint__every=1, log__rollouts_every=0)  # fmt: skip
    whole, part = tmp_path / "whole", tmp_path / "part"
    train.train_and_evaluate(c, "small", whole)
    shutil.copytree(whole, part)
    flip(largest(part / "checkpoints" / "3"))
    capsys.readouterr()
    train.train_and_evaluate(c, "small", part, resume=True)
    said = capsys.readouterr().out
    assert "checkpoint 3 is damaged" in said and "resumed after step 2" in said
    assert metrics(part) == metrics(whole)
    assert json.loads((part / "summary.json").read_text()) == json.loads(
        (whole / "summary.json").read_text()
    )
    ours, theirs = (weights.load(path / "policy")[1] for path in (part, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_save_that_failed_is_told_once(tmp_path, caplog):
    """The errors of its other arrays are no news; what else asyncio says stays."""
    Checkpoints(tmp_path, keep=1).close()
    loop = asyncio.new_event_loop()
    for place in ("a.orbax-checkpoint-tmp", "elsewhere"):
        loop.create_future().set_exception(OSError(f"{tmp_path}/{place}: No space left"))
    gc.collect()
    loop.close()
    (said,) = [message for message in caplog.messages if "never retrieved" in message]
    assert "elsewhere" in said

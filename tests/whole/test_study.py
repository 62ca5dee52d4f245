"""A small study from plan to page; one that is killed in the middle has the same page."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.processes import environment

BASE = f"""
import runpy
def get_config(preset="A7"):
    c = runpy.run_path({str(ROOT / "configs/quickstart.py")!r})["get_config"](preset)
    c.batch_size, c.group_size, c.optim.micro_batch = 2, 4, 2
    c.task.options.update(train=40, id=4, ood=4)
    c.eval.questions, c.eval.ood_questions, c.eval.batch = 4, 4, 4
    return c
"""
PLAN = """
import pathlib
from gccpo_jax.study.plan import default
def get_config():
    s = default()
    s.base = str(pathlib.Path(__file__).with_name("base.py"))
    s.seeds, s.updates, s.evaluate_every = (1, 2), 3, 2
    s.changes = "checkpoint.every=1 log.rollouts_every=0 log.tensorboard=false"
    s.primary = ("ood_shortcut", "ood_nolabel")
    return s
"""


def study(folder, *words):
    command = [sys.executable, "-m", "gccpo_jax.study", *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    said, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return said


def kill(process, workdir):
    """The study and the cells that it was running, at once, as when a machine goes down."""
    process.kill()
    process.communicate()
    for lock in workdir.glob("cells/*/lock"):
        with contextlib.suppress(ValueError, ProcessLookupError):  # empty: nobody runs there
            os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_a_study_that_is_killed_and_started_again_has_the_same_page(tmp_path):
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "plan.py").write_text(PLAN)
    words = ["--config", "plan.py", "--jobs", "2", "--workdir"]
    first = study(tmp_path, *words, "part")
    begun = tmp_path / "part/cells/A7-seed1-updates3/metrics.jsonl"
    end = time.monotonic() + 600
    while not begun.exists() or not begun.read_text().count("\n"):
        assert first.poll() is None and time.monotonic() < end, first.communicate()
        time.sleep(0.02)
    kill(first, tmp_path / "part")
    assert not begun.with_name("summary.json").exists(), "in the middle"
    said = finish(study(tmp_path, *words, "part"))
    assert "raw results: part/results.jsonl" in said

    finish(study(tmp_path, *words, "whole"))
    for name in ("part", "whole"):
        finish(study(tmp_path, "--tables", f"{name}/results.jsonl", "--out", f"{name}/out"))
    for file in ("results.jsonl", "out/study.json", "out/study.md"):
        part, whole = ((tmp_path / name / file).read_text() for name in ("part", "whole"))
        assert part == whole, file
    found = json.loads((tmp_path / "whole/out/study.json").read_text())
    assert found["compared_at"] == "equal tokens" and set(found["contrasts"]) == {"method-A0"}
    assert {"id", "ood_shortcut", "ood_nolabel"} <= set(found["contrasts"]["method-A0"])
    cost = found["cost"]["equal tokens"]
    assert cost["A0"]["updates"] > 3 == cost["A7"]["updates"]
    assert cost["A0"]["tokens"] == pytest.approx(cost["A7"]["tokens"], rel=0.2)
    assert finish(study(tmp_path, *words, "whole")).count("finished") == 0

"""The runner on cells that are not runs: order, resuming, failures, signals."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.study import plan, results, run
from tests.helpers.paths import ROOT

# A cell that writes what a run writes: a line per update, then its evaluations and summary. It
# goes on where its metrics end, and fails or waits if it is told to.
CELL = """
import json, os, pathlib, sys, time
where, updates, cost, config, mode = sys.argv[1:]
where = pathlib.Path(where)
where.mkdir(parents=True, exist_ok=True)
(where / "config.json").write_text(config)
file = where / "metrics.jsonl"
done = file.read_text().count("\\n") if file.exists() else 0
for step in range(done + 1, int(updates) + 1):
    if mode == "fails" and step == 2:
        sys.exit("error: no more")
    while mode == "waits" and step == 2:
        time.sleep(0.01)
    with file.open("a") as out:
        out.write(json.dumps({"step": step, "forward_tokens": float(cost)}) + "\\n")
(where / "evaluation").mkdir(exist_ok=True)
for step in (0, int(updates)):
    row = {"split": "id", "items": [1, 2], "templates": ["", ""], "scores": [0, step % 2]}
    (where / f"evaluation/step_{step:06d}.jsonl").write_text(json.dumps(row) + "\\n")
(where / "summary.json").write_text("{}")
"""
COSTS = {"A0": 1, "A7": 5}


@pytest.fixture
def started(monkeypatch):
    """Which cells were started, in order; `modes` says what becomes of them."""
    names, modes = [], {}

    def start(workdir, one):
        names.append(one.name)
        where = run.folder(workdir, one)
        config = json.dumps(plan.dataclasses.asdict(one.config))
        words = [where, one.updates, COSTS[one.arm], config, modes.get(one.name, "")]
        with where.with_name(f"{where.name}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-c", CELL, *map(str, words)], stdout=log, stderr=log
            )

    monkeypatch.setattr(run, "start", start)
    return names, modes


def study(**changes):
    known = {"base": str(ROOT / "configs/quickstart.py"), "seeds": (1, 2), "updates": 3}
    return plan.freeze_study(plan.default().to_dict() | known | changes)


def gathered(workdir):
    return results.gather(study(), workdir, run.run_study(study(), workdir, 1))


FIRST = ["A0-seed1-updates3", "A7-seed1-updates3", "A0-seed2-updates3", "A7-seed2-updates3"]
SECOND = ["A0-seed1-updates15", "A0-seed2-updates15"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_cheap_arms_run_again_with_the_tokens_of_the_dearest(tmp_path, started, jobs):
    cells = run.run_study(study(), tmp_path, jobs)
    assert started[0] == FIRST + SECOND
    assert [c.name for c in cells.equal_updates] == FIRST
    assert [c.name for c in cells.equal_tokens] == [SECOND[0], FIRST[1], SECOND[1], FIRST[3]]
    assert run.tokens_of(tmp_path, cells.equal_tokens[0]).tolist() == list(range(1, 16))
    found = results.read_results(results.gather(study(), tmp_path, cells))
    ends = results.at_the_end(found, "equal tokens", "A0", "id")
    assert ends.tolist() == [[0, 1], [0, 1]], "15 is odd"


def test_a_budget_of_ones_own_may_be_less(tmp_path, started):
    cells = run.run_study(study(budget=10.0, seeds=(1,)), tmp_path, 1)
    assert [c.name for c in cells.equal_tokens] == ["A0-seed1-updates10", "A7-seed1-updates2"]


def test_a_cell_near_enough_to_the_budget_stands_for_both_comparisons(tmp_path, started):
    near = study(budget=10.0, tolerance=0.4, seeds=(1,))  # 10 and 2 updates where 3 were made
    cells = run.run_study(near, tmp_path, 1)
    assert [c.name for c in cells.equal_tokens] == ["A0-seed1-updates10", "A7-seed1-updates3"]
    assert started[0] == ["A0-seed1-updates3", "A7-seed1-updates3", "A0-seed1-updates10"]


def test_what_is_finished_is_not_run_again_and_results_are_the_same(tmp_path, started):
    names, modes = started
    whole = results.gather(
        study(), tmp_path / "whole", run.run_study(study(), tmp_path / "whole", 1)
    )
    names.clear()
    modes[FIRST[2]] = "fails"
    with pytest.raises(UserError, match=r"cell A0-seed2-updates3 ended with code 1 \(error: no"):
        run.run_study(study(), tmp_path / "part", 1)
    assert names == FIRST[:3]
    names.clear()
    modes.clear()
    part = gathered(tmp_path / "part")
    assert names == FIRST[2:] + SECOND
    assert part.read_bytes() == whole.read_bytes()
    names.clear()
    run.run_study(study(), tmp_path / "part", 1)
    assert names == []


def test_a_signal_ends_the_cells_and_the_study(tmp_path, started):
    names, modes = started
    modes |= {name: "waits" for name in FIRST}

    def kill():
        while len(names) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(run.Interrupted) as end:
        run.run_study(study(), tmp_path, 2)
    thread.join()
    assert end.value.exit_code == 143 and "the same command goes on" in str(end.value)
    assert names == FIRST[:2]
    modes.clear()
    run.run_study(study(), tmp_path, 2)
    assert names == FIRST[:2] + FIRST + SECOND


def test_a_cell_of_another_plan_is_refused(tmp_path, started):
    run.run_study(study(matched=False), tmp_path, 1)
    with pytest.raises(UserError, match=r"holds a cell of another plan \(config.optim.lr: 0.0001"):
        run.run_study(study(matched=False, changes="optim.lr=0.5"), tmp_path, 1)
    run.run_study(study(matched=False, changes="log.rollouts=1"), tmp_path, 1)


def test_arms_that_were_asked_other_questions_are_not_compared(tmp_path, started):
    cells = run.run_study(study(matched=False), tmp_path, 1)
    file = tmp_path / f"cells/{FIRST[1]}/evaluation/step_000003.jsonl"
    file.write_text(file.read_text().replace("[1,2]", "[1,3]").replace("[1, 2]", "[1, 3]"))
    with pytest.raises(UserError, match="other questions in id"):
        results.gather(study(), tmp_path, cells)

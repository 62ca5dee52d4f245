"""The table of injected faults: two of its rows are made anew, and what is wrong is seen."""

import json
import math
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT, SCRIPTS
from tests.helpers.processes import environment

sys.path.append(str(SCRIPTS))
import inject_faults
from fault_list import FAULTS, Row, row
from fault_runs import Ended, Lab

PAGE = ROOT / "docs" / "reliability.md"


def write(folder, *rows):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_what_was_lost_is_measured_bit_by_bit(tmp_path):
    lab = Lab(tmp_path)
    rows = [{"step": n, "loss": 0.1 * n, "kl": float("nan"), "step_seconds": n} for n in (1, 2)]
    write(lab.whole, *rows)
    same = write(tmp_path / "same", *({**row, "step_seconds": 9} for row in rows))
    assert lab.lost(same) == (
        "nothing: gone on with, it is the run without the fault, bit by bit", False
    )  # fmt: skip
    for name, kept in (
        ("less", rows[:1]),
        ("next", [rows[0], {**rows[1], "loss": math.nextafter(0.2, 1)}]),
    ):
        said, wrong = lab.lost(write(tmp_path / name, *kept))
        assert wrong and said.startswith("NOT THE SAME")


@pytest.mark.parametrize(
    ("code", "said", "lost", "wrong"),
    [
        (2, "x\nerror: no room\n", False, False),
        (0, "error: no room", False, True),
        (2, "error: why", False, True),
        (2, "error: no room", True, True),
    ],
)
def test_a_row_is_wrong_if_anything_is(tmp_path, code, said, lost, wrong):
    words = ("error", "no room")
    found = row("a", Lab(tmp_path), Ended(code, said), words, ("that", lost), "t", code=2)
    assert found.wrong == wrong == found.lost.startswith("WRONG")
    assert found.code == str(code) and found.said.startswith("`error: ")


def test_only_what_stands_between_the_markers_is_replaced():
    text = PAGE.read_text()
    new = inject_faults.table([Row("a", "b", "c", "d", "e")])
    page = inject_faults.replace_between(text, new)
    assert "| a | b | c | d | e |" in page
    assert inject_faults.replace_between(page, new) == page
    for end in (0, -1):
        part = (inject_faults.BEGIN, inject_faults.END)[end]
        assert page.split(part)[end] == text.split(part)[end]
    with pytest.raises(SystemExit, match="begin: scripts"):
        inject_faults.replace_between("no markers", new)


def test_the_page_has_a_row_for_every_fault():
    rows = PAGE.read_text().partition(inject_faults.BEGIN)[2].partition(inject_faults.END)[0]
    rows = [line for line in rows.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(FAULTS)
    assert not any("WRONG" in line for line in rows)


@pytest.mark.slow
def test_two_faults_are_injected():
    words = [sys.executable, str(SCRIPTS / "inject_faults.py"), "--only", "flipped", "nan_logp"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    flipped, poisoned = done.stdout.splitlines()[2:]
    assert "checkpoint 4 is damaged" in flipped and "| nothing: gone on with" in flipped
    assert "step 3: 2 updates skipped, not finite" in poisoned and "| 2 of 8 updates" in poisoned

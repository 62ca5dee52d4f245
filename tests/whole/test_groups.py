"""Slow tests that share what is made once are run by one worker (`xdist_group`, `.ci/run`)."""

import subprocess
import sys

from tests.helpers.processes import environment

TESTS = """
import time, pytest

@pytest.fixture(scope="module")
def made():
    with open("made", "a") as file:
        file.write("once ")

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("n", range(4))
def test_shared(made, n):
    time.sleep(0.1)

@pytest.mark.parametrize("n", range(4))
def test_other(n):
    time.sleep(0.1)
"""


def test_what_a_group_shares_is_made_by_one_worker(tmp_path):
    """Some versions of pytest do not see groups: what is made for two minutes is made twice."""
    (tmp_path / "test_them.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "."]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment(), text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "made").read_text() == "once "

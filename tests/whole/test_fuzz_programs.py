"""The fuzz of hostile programs: each attack once, and that an escape would be seen."""

import sys

import pytest

from gccpo_jax.tasks.checking.code import Limits, Verdict
from tests.helpers.paths import ROOT
from tests.helpers.sandbox import has, need_any

sys.path.insert(0, str(ROOT / "scripts"))
import fuzz_programs
from fuzz_programs import ATTACKS, fuzz

QUICK = Limits(seconds=0.5)


@pytest.mark.slow
def test_each_attack_once_and_nothing_escapes():
    need_any()
    found = fuzz(len(ATTACKS), seed=1, limits=QUICK)
    assert found["escapes"] == [] and found["left"] == 0
    assert found["slowest"] < QUICK.deadline
    if has("namespaces"):
        assert found["unscorable"] == 0


def test_an_escape_would_be_seen(monkeypatch):
    def fooled(program, tests, limits, tiers):
        if "builtins" in program:
            return Verdict((True, False), "none")
        if "open(" in program and "'w')" in program:
            path = program.split("open('")[1].split("'")[0]
            open(path, "w").close()
        return Verdict((False, False), "none")

    monkeypatch.setattr(fuzz_programs, "run_tests", fooled)
    found = fuzz(4 * len(ATTACKS), seed=0, limits=QUICK)
    assert any(one.endswith("a test passed") for one in found["escapes"])
    assert any(one.endswith("a file changed") for one in found["escapes"])

"""Whether this machine can run programs of a policy's."""

import pytest

from gccpo_jax.tasks.checking.code import TIERS, Limits, Tests, run_tests

_NOTHING = Tests("[[ask('1') == 1], []]", 1)


def has(tier):
    """Whether one tier can be had here."""
    return run_tests("x = 1", _NOTHING, Limits(seconds=10.0), (tier,)).passed is not None


def need_namespaces():
    """Skips a test of what only both tiers together know."""
    if not has("namespaces"):
        pytest.skip("no namespaces here: what the first tier lacks is unscorable")


def need_any():
    """Skips a test that runs plain programs."""
    if not any(map(has, TIERS)):
        pytest.skip("nothing here runs programs")

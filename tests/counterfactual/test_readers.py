"""The readers' own settings; what they read is tested where it is used."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from gccpo_jax.counterfactual import readers
from gccpo_jax.sampling.sites import Sites


@pytest.mark.parametrize("asked, reserved", [(2**31 - 1, 9), (9, 9), (4, 4)])
def test_a_branch_reserves_no_more_than_its_response_may_have(monkeypatch, asked, reserved):
    seen = {}
    monkeypatch.setattr(readers, "continue_branches", lambda *_, **options: seen.update(options))
    monkeypatch.setattr(readers, "at_sites", lambda tapes, sites: tapes)
    one = jnp.zeros((1, 1, 1, 1), jnp.int32)
    sites = Sites(keep=one, tokens=one[..., None], length=one, tape=one, exists=one > 0)
    solver, traces = SimpleNamespace(policy=None, stop=None), SimpleNamespace(rule=None)
    held = SimpleNamespace(mask=one[0, 0])
    of = SimpleNamespace(solver=solver, traces=traces, params=None, cache=(None, held))
    readers.begin_branches(of, None, sites, max_tokens=asked, limit=9)
    assert seen["max_tokens"] == reserved

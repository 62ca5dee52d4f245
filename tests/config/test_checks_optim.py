"""The optim section: values under which an update could not be finite."""

import re

import pytest

from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError


def with_optim(**changes):
    config = default()
    config.optim.update(changes)
    return freeze(config)


@pytest.mark.parametrize("name", ["b1", "b2"])
def test_a_moment_that_never_moves_is_refused(name):
    """1, and what float32 rounds to 1."""
    for value in (1.0, 1 - 1e-9, -0.1):
        with pytest.raises(UserError, match=re.escape(f"config.optim.{name} = {value}: expected")):
            with_optim(**{name: value})
    assert getattr(with_optim(**{name: 1 - 2**-24}).optim, name) < 1
    assert getattr(with_optim(**{name: 0.0}).optim, name) == 0


def test_an_epsilon_that_is_zero_in_float32_is_refused():
    with pytest.raises(UserError, match="config.optim.eps = 1e-46: expected at least"):
        with_optim(eps=1e-46)
    assert with_optim(eps=1e-37).optim.eps == 1e-37

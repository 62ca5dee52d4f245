"""What `load` refuses, and bitwise equality of parameters."""

import jax
import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights


def same(left, right):
    """Bitwise equality of two trees, dtypes included."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def refused(path, *words):
    """The message with which `load` refuses, one line that holds `words`."""
    with pytest.raises(UserError) as error:
        weights.load(path)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message

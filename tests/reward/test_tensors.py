"""The scores of tensors are those of arrays; only where PyTorch is installed."""

import jax
import numpy as np
import pytest

from gccpo_jax import reward
from gccpo_jax.reward.tensors import on_tensors
from tests.reward.test_trajectory import laws_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def test_a_record_of_tensors_is_scored_as_one_of_arrays():
    laws = laws_of(0)
    tensors = jax.tree.map(lambda x: torch.from_numpy(np.array(x)), laws)
    given = on_tensors(reward.score)(tensors, max_other=0.2)
    expected = reward.score(laws, max_other=0.2)
    for found, wanted in zip(jax.tree.leaves(given), jax.tree.leaves(expected), strict=True):
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), wanted)


def test_wide_numbers_are_narrowed_and_what_is_no_tensor_is_handed_on():
    p = torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.float64, requires_grad=True)
    found = on_tensors(lambda p, index, word: (p[:, 0], index, word))(p, torch.tensor([2**20]), "a")
    assert found[0].dtype == torch.float32 and found[0].tolist() == [0.5, 0.25]
    assert found[1].dtype == torch.int32 and found[2] == "a" and not found[0].requires_grad

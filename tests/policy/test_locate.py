"""The policies that ship with the package, and what is taken for one."""

import jax
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.policy.locate import SHIPPED, locate
from gccpo_jax.policy.tokenizer import check_vocab, load_tokenizer


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_policies_are_whole_and_small(name):
    arch, params = weights.load(name)
    check_vocab(arch, load_tokenizer(name))
    assert 0.6e6 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 0.7e6
    assert sum(file.stat().st_size for file in locate(name).iterdir()) < 4 * 2**20


def test_a_run_is_answered_with_its_model(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="a run, not a model; its model is .*policy once it has"):
        locate(tmp_path)

"""How many branches are decoded at a time, by what they are decoded on."""

import pytest

from gccpo_jax.counterfactual.readers import branch_slots


@pytest.mark.parametrize(
    ("rollouts", "each", "shards", "on_cpu", "expected"),
    [
        (128, 4, 1, True, 32),  # a quarter of the rollouts
        (16, 4, 1, True, 32),  # 32 if they are few
        (4, 4, 1, True, 16),  # never more than there are
        (128, 4, 2, True, 0),  # a queue serves one device
        (64, 4, 1, False, 0),  # 256 at once fill an accelerator: no queue
        (128, 4, 1, False, 256),
        (4096, 4, 1, False, 1024),
        (128, 4, 8, False, 0),
    ],
)
def test_slots(rollouts, each, shards, on_cpu, expected):
    assert branch_slots(rollouts, each, shards, on_cpu) == expected

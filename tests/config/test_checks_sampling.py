"""`sampling.slots`: a queue shorter than a step's rollouts, on one device; branches likewise."""

import pytest

from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError


def config_of(slots, batch_size=4, group_size=4, **mesh):
    config = default()
    config.batch_size, config.group_size, config.sampling.slots = batch_size, group_size, slots
    for name, size in mesh.items():
        config.mesh[name] = size
    return config


@pytest.mark.parametrize("slots, mesh", [(0, {"data": 2}), (1, {}), (15, {}), (15, {"tensor": 2})])
def test_fewer_slots_than_rollouts_are_accepted(slots, mesh):
    assert freeze(config_of(slots, **mesh)).sampling.slots == slots


@pytest.mark.parametrize("slots", [16, 17])
def test_as_many_slots_as_rollouts_are_refused(slots):
    with pytest.raises(UserError, match=rf"sampling.slots = {slots}: expected fewer .* = 16"):
        freeze(config_of(slots))


@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_a_queue_on_a_split_batch_is_refused(axis):
    message = r"sampling.slots = 8 with mesh.data x mesh.fsdp = 2: .* leave slots at 0"
    with pytest.raises(UserError, match=message):
        freeze(config_of(8, **{axis: 2}))


def test_a_negative_number_of_slots_is_refused():
    with pytest.raises(UserError, match="slots"):
        freeze(config_of(-1))


def test_branches_of_a_mesh_are_decoded_from_their_boundaries():
    config = config_of(0, data=2)
    config.counterfactual.from_departure = True
    with pytest.raises(UserError, match="from_departure = True with mesh.data x mesh.fsdp = 2"):
        freeze(config)
    config.mesh.data = 1
    assert freeze(config).counterfactual.from_departure

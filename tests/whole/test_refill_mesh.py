"""Dynamic sampling on a mesh keeps the questions, tokens and advantages of one device."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import config
from gccpo_jax.runtime import sharding
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.training.experience import collect
from gccpo_jax.types import Prompts
from tests.helpers import toy

B, G, T = 8, 3, 6


def verify(item, text):
    """Right where a sum of digits says so; one of three tokens cannot be scored."""
    return None if len(text) == 3 else float((sum(map(int, text)) + item.id) % 4 == 0)


KIT = Solver(
    policy=toy.POLICY,
    task=Task("digits", {}, prompt=str, extract=str, verify=verify),
    tokenizer=SimpleNamespace(decode=lambda ids, skip_special: "".join(map(str, ids))),
    stop=toy.IS_STOP,
    boundary=toy.IS_STOP,
    field=None,
)


def settings():
    c = config.default()
    c.batch_size, c.group_size = B, G
    c.sampling.max_tokens, c.sampling.dynamic = T, 6
    c.credit.kind, c.credit.baseline = "outcome", "zscore"
    return config.freeze(c)


def collected(mesh):
    """What a step trains on, its stream of questions placed on a mesh."""
    params = jax.device_put(toy.PARAMS, sharding.replicated(mesh))
    starts = iter(range(0, 7 * B, B))

    def questions():
        rows = np.arange(B) + next(starts)
        some = toy.prompts([int(row) % len(toy.PROMPTS) for row in rows])
        prompts = Prompts(some.tokens, some.mask, jnp.asarray(rows, jnp.uint32))
        items = [Item(int(row), question="", answer="") for row in rows]
        return items, sharding.put_batch(mesh, prompts)

    return collect(KIT, settings(), params, *questions(), 1, Stopwatch(), more=questions)


@pytest.fixture(scope="module")
def one():
    return collected(sharding.make_mesh())


def test_the_example_refills_keeps_some_and_has_unscorable_rows(one):
    ids = [item.id for item in one.items]
    assert 0 < sum(n < B for n in ids) < B and one.metrics["refills"] > 1
    assert np.isnan(one.outcome).any()
    assert all(len(set(row[~np.isnan(row)])) == 2 for row in one.outcome)
    assert np.any(one.advantage)


@pytest.mark.parametrize("shape", [(8, 1), pytest.param((2, 2), marks=pytest.mark.slow)], ids=str)
def test_a_refilled_batch_is_that_of_one_device(one, shape):
    many = collected(sharding.make_mesh(*shape))
    assert [item.id for item in many.items] == [item.id for item in one.items]
    assert many.metrics == one.metrics
    np.testing.assert_array_equal(many.texts, one.texts)
    np.testing.assert_array_equal(many.outcome, one.outcome)
    for name in ("prompts", "rollout", "advantage"):
        jax.tree.map(np.testing.assert_array_equal, getattr(many, name), getattr(one, name))
    jax.tree.map(np.testing.assert_array_equal, vars(many.trained), vars(one.trained))
    for x in (many.prompts.tokens, many.rollout.tokens, many.advantage):
        assert x.sharding.shard_shape(x.shape)[0] == B // np.prod(shape), "questions stay split"

"""Dynamic sampling: which groups stay, what takes their place, and that runs resume exactly."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.errors import UserError
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.buckets import padded
from gccpo_jax.sampling.rollouts import resized
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.training.dynamic_sampling import contrast, refill, replace_rows
from gccpo_jax.training.run import Run
from gccpo_jax.types import Prompts, Rollout, Segment
from tests.helpers.runs import metrics, rollouts, small

B, G, T, S, L, K, D = 3, 2, 4, 5, 2, 1, 3
MIXED, RIGHT, WRONG, HALF = (1, 0), (1, 1), (0, 0), (1, np.nan)


def traces(ids, outcomes):
    """Every array of row b says which question it is of."""
    ids = np.array(ids, np.uint32)

    def filled(*shape, axis=0):
        where = [1] * len(shape)
        where[axis] = B
        return jnp.broadcast_to(jnp.asarray(ids, jnp.float32).reshape(where), shape)

    prompt = Segment(filled(L, B, K, S, D, axis=1), filled(L, B, K, S, D, axis=1), filled(B, S))
    segment = Segment(
        filled(L, B, G, K, T, D, axis=1), filled(L, B, G, K, T, D, axis=1), filled(B, G, T)
    )
    rollout = Rollout(
        filled(B, G, T), filled(B, G, T), filled(B, G, T), filled(B, G), filled(B, G), segment
    )
    return Traces(
        items=[SimpleNamespace(id=int(i)) for i in ids],
        prompts=Prompts(filled(B, S), filled(B, S), jnp.asarray(ids)),
        seed=(0, 1),
        keys=noise.question_keys(jax.random.key(0), 1, jnp.asarray(ids)),
        prompt=prompt,
        rollout=rollout,
        tokens=np.array(filled(B, G, T)),
        lengths=np.full((B, G), 2),
        rule=Rule(),
        texts=np.array([[str(i)] * G for i in ids], object),
        outcome=np.array(outcomes, np.float32),
        limit=T,
        keyed=True,
    )


def assert_of(found, ids):
    """Every array of the batch is of these questions, row by row."""
    wanted = traces(ids, found.outcome)
    for name in ("prompts", "prompt", "rollout", "tokens", "texts"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(found, name), getattr(wanted, name),
            is_leaf=lambda x: isinstance(x, np.ndarray),
        )  # fmt: skip
    np.testing.assert_array_equal(*(jax.random.key_data(t.keys) for t in (found, wanted)))
    assert [item.id for item in found.items] == list(ids)


def test_a_group_has_contrast_if_its_scorable_outcomes_differ():
    assert contrast(traces([1, 2, 3], [MIXED, RIGHT, WRONG])).tolist() == [True, False, False]
    assert contrast(traces([1, 2, 3], [HALF, MIXED, HALF])).tolist() == [False, True, False]


def test_rows_are_replaced_in_every_array():
    old, new = traces([1, 2, 3], [MIXED] * B), traces([4, 5, 6], [MIXED] * B)
    assert_of(replace_rows(old, new, np.array([-1, 2, 0])), [1, 6, 4])
    assert_of(old, [1, 2, 3])


def test_a_longer_row_makes_room_for_itself():
    old, new = traces([1, 2, 3], [MIXED] * B), traces([4, 5, 6], [MIXED] * B)
    longer = dataclasses.replace(
        new, rollout=resized(new.rollout, T + 3), tokens=padded(new.tokens, T + 3)
    )
    for found in (
        replace_rows(old, longer, np.array([-1, 2, 0])),
        replace_rows(longer, old, np.array([0, -1, 1])),
    ):
        rollout = found.rollout
        assert {x.shape[-1] for x in (found.tokens, rollout.logp, rollout.segment.mask)} == {T + 3}
        cut = dataclasses.replace(found, rollout=resized(rollout, T), tokens=found.tokens[..., :T])
        assert_of(cut, [item.id for item in found.items])
        assert not np.any(found.tokens[..., T:]) and not np.any(rollout.segment.k[..., T:, :])


def test_groups_without_contrast_are_refilled_in_order():
    rounds = iter(
        [
            traces([1, 5, 6], [MIXED, RIGHT, MIXED]),  # 1 came before: passed over
            traces([7, 8, 9], [WRONG, MIXED, MIXED]),
        ]
    )
    first = traces([1, 2, 3], [WRONG, MIXED, RIGHT])
    found, log = refill(first, lambda: next(rounds), 3)
    assert_of(found, [6, 2, 8])
    assert found.outcome.tolist() == [list(MIXED)] * B
    assert log == {"refills": 2, "sampled_questions": 9, "tokens": 3 * B * G * 2}


def test_a_full_batch_asks_for_nothing():
    first = traces([1, 2, 3], [MIXED] * B)
    found, log = refill(first, lambda: pytest.fail("asked"), 3)
    assert found is first and log["refills"] == 0


def test_a_batch_that_cannot_be_filled_is_an_error():
    first, more = traces([1, 2, 3], [RIGHT] * B), traces([4, 5, 6], [MIXED, MIXED, WRONG])
    with pytest.raises(UserError, match="dynamic = 1: after 1 more rounds 1 of 3 questions still"):
        refill(first, lambda: more, 1)


class Killed(Exception):
    """Stands for a process that ends between two steps."""


@pytest.mark.slow
def test_a_run_with_dynamic_sampling_trains_on_contrast_and_resumes(tmp_path, monkeypatch):
    changes = {
        "credit__kind": "outcome", "sampling__dynamic": 8, "batch_size": 4, "steps": 2,
        "checkpoint__every": 1, "reward__overlong": 4, "reward__length_penalty": 0.1,
        "eval__ood_questions": 0, "log__rollouts": 4,
    }  # fmt: skip
    c = small(**changes)
    train.train_and_evaluate(c, "dynamic", tmp_path / "whole")
    rows = metrics(tmp_path / "whole")
    assert any(row["refills"] > 0 for row in rows)
    assert all("reward" in row and row["contrast"] <= 1 for row in rows)
    groups = {}
    for row in rollouts(tmp_path / "whole", 2):
        groups.setdefault(row["question_id"], set()).add(row["outcome"])
    assert len(groups) == 4 and all(len(seen) > 1 for seen in groups.values())

    finish_step = Run.finish_step

    def die(self, config, step, *rest):
        finish_step(self, config, step, *rest)
        if step == 1:
            raise Killed

    monkeypatch.setattr(Run, "finish_step", die)
    with pytest.raises(Killed):
        train.train_and_evaluate(c, "dynamic", tmp_path / "killed")
    monkeypatch.undo()
    train.train_and_evaluate(c, "dynamic", tmp_path / "killed", resume=True)
    assert metrics(tmp_path / "killed") == rows

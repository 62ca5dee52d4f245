"""Groups over wordings and the do-update, on arrays made by hand and one short run."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.advantage.credit import spread_all
from gccpo_jax.config import CreditConfig
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import resized
from gccpo_jax.training import intervened
from gccpo_jax.training.intervened import Trained, do_update, regroup, ungroup
from gccpo_jax.types import Prompts, Rollout, Segment, Spans
from tests.helpers.runs import metrics, small

B, G, E, T, S, P = 3, 2, 2, 6, 4, 2
RULE = CreditConfig(gate=False)
NOTHING = Segment((), (), jnp.zeros((B * P, G, T), bool))  # no layers


def test_groups_over_wordings_are_whole_and_come_apart_again():
    tree = {"a": jnp.arange(24.0).reshape(6, 2, 2), "none": jnp.zeros((6, 2, 0))}
    joined = regroup(tree, 3)
    assert joined["a"].shape == (2, 6, 2) and joined["none"].shape == (2, 6, 0)
    np.testing.assert_array_equal(joined["a"][0], tree["a"][:3].reshape(6, 2))
    jax.tree.map(np.testing.assert_array_equal, ungroup(joined, 3), tree)


def test_the_keys_of_wordings_differ_and_depend_on_the_question_alone():
    keys = noise.question_keys(jax.random.key(0), 1, jnp.array([3, 8]))
    found = jax.random.key_data(noise.surface_keys(keys, 3))
    assert len(np.unique(np.asarray(found), axis=0)) == 6
    alone = jax.random.key_data(noise.surface_keys(keys[1:], 3))
    np.testing.assert_array_equal(found[3:], alone)


def batch():
    """Two steps of three tokens; rewritten, the first has two tokens and the second three."""
    rng = np.random.default_rng(0)

    def rollout(rows, length):
        return Rollout(
            tokens=jnp.asarray(rng.integers(2, 9, (rows, G, T)), jnp.int32),
            logp=jnp.asarray(-rng.random((rows, G, T)), jnp.float32),
            entropy=jnp.zeros((rows, G, T)),
            length=jnp.full((rows, G), length),
            stopped=jnp.ones((rows, G), bool),
            segment=None,
        )

    def spans(rows, cut, end):
        start = jnp.broadcast_to(jnp.array([0, cut]), (rows, G, E))
        return Spans(
            start, jnp.broadcast_to(jnp.array([cut, end]), start.shape), jnp.ones(start.shape, bool)
        )

    asked, there = rollout(B, 6), rollout(B * P, 5)
    exists = np.ones((B * P, G), bool)
    exists[1, 0] = exists[4:] = False  # question 0 arm 1 lacks one, question 2 has none at all
    prompts = Prompts(jnp.zeros((B * P, S), jnp.int32) + 5, jnp.ones((B * P, S), bool), None)
    traces = SimpleNamespace(rollout=there, tokens=np.asarray(there.tokens), prompts=prompts)
    moved = SimpleNamespace(
        arms=P, exists=exists, spans=spans(B * P, 2, 5), seen=SimpleNamespace(traces=traces)
    )
    trained = Trained(
        Prompts(jnp.ones((B, S), jnp.int32), jnp.ones((B, S), bool), jnp.arange(B)),
        asked.tokens,
        asked.logp,
        jnp.ones((B, G, T)),
        jnp.ones((B, G, T), bool),
    )
    steps = jnp.asarray(rng.normal(size=(B, G, E)), jnp.float32)
    return trained, asked, spans(B, 3, 6), steps, moved


def test_a_do_update_trains_the_rewritten_tokens_under_their_own_law():
    trained, asked, spans, steps, moved = batch()
    keys = jax.random.split(jax.random.key(1), B)
    found, told = do_update(trained, asked, spans, steps, moved, keys, share=1.0, rule=RULE)
    arm = [int(jax.random.randint(jax.random.fold_in(k, noise.DO), (), 0, P)) for k in keys]
    there = moved.seen.traces.rollout
    for b in (0, 1):
        q = P * b + arm[b]
        np.testing.assert_array_equal(found.tokens[b], there.tokens[q])
        np.testing.assert_array_equal(found.logp[b], there.logp[q])
        np.testing.assert_array_equal(found.prompts.tokens[b], moved.seen.traces.prompts.tokens[q])
        np.testing.assert_array_equal(found.mask[b, :, 0], moved.exists[q])
        assert not found.mask[b, :, 5].any()  # it has five tokens there
        plain = spread_all(
            steps[b], jax.tree.map(lambda x, q=q: x[q], moved.spans),
            jax.tree.map(lambda x, q=q: x[q], dataclasses.replace(there, segment=None)), RULE,
        )  # fmt: skip
        weight = np.asarray(found.advantage[b]) / np.where(plain == 0, 1, plain)
        assert (weight <= 1 + 1e-6).all() and (weight[:, :5] > 0).all()
        second = np.minimum(np.exp(there.logp[q][:, 2:5] - asked.logp[b][:, 3:6]), 1)
        np.testing.assert_allclose(weight[:, 2:5], second, rtol=1e-5)
    for name in ("tokens", "logp", "advantage", "mask"):  # no rewrite: as asked
        np.testing.assert_array_equal(getattr(found, name)[2], getattr(trained, name)[2])
    assert told["do_share"] == pytest.approx(2 / 3)


def test_a_rewrite_may_have_a_longer_or_shorter_buffer():
    trained, asked, spans, steps, moved = batch()
    keys = jax.random.split(jax.random.key(1), B)
    wanted, _ = do_update(trained, asked, spans, steps, moved, keys, share=1.0, rule=RULE)
    traces = moved.seen.traces
    for size in (T - 1, T + 2):
        there = resized(dataclasses.replace(traces.rollout, segment=NOTHING), size)
        other = SimpleNamespace(**vars(traces) | {"rollout": there, "tokens": there.tokens})
        moved.seen = SimpleNamespace(traces=other)
        found, _ = do_update(trained, asked, spans, steps, moved, keys, share=1.0, rule=RULE)
        assert found.tokens.shape[-1] == max(size, T)
        for name in ("tokens", "logp", "advantage", "mask"):
            x, y = (np.asarray(getattr(one, name)) for one in (found, wanted))
            same = T if name in ("mask", "advantage") else T - 1  # the rest is anything
            np.testing.assert_array_equal(x[..., :same], y[..., :same])
            assert not x[..., T:].any()


def test_without_a_share_nothing_is_intervened_on():
    trained, asked, spans, steps, moved = batch()
    keys = jax.random.split(jax.random.key(1), B)
    found, told = do_update(trained, asked, spans, steps, moved, keys, share=0.0, rule=RULE)
    assert told["do_share"] == 0.0
    jax.tree.map(np.testing.assert_array_equal, vars(found), vars(trained), is_leaf=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"counterfactual__transport": "both", "optim__do_share": 0.5, "credit__gate": False},
        {"sampling__surface_groups": 2, "credit__gate": False},
        {
            "counterfactual__transport": "surface",
            "counterfactual__boundaries": 0,
            "credit__kind": "outcome",
            "credit__kappa": 0.5,
            "optim__do_share": 0.5,
        },
        {"optim__train_branches": True, "credit__gate": False},
    ],
    ids=["do-update", "wordings", "do-update of the outcome", "branches"],
)
def test_a_run_in_other_words_resumes_exactly(tmp_path, changes, monkeypatch):
    of_steps = changes.get("credit__kind") != "outcome"  # the others read no laws
    arms = {f"counterfactual__{name}_arms": 0 for name in ("latent", "surface") if of_steps}
    config = small(**arms, **changes, eval__ood_questions=0)
    train.train_and_evaluate(config, "whole", tmp_path / "whole")
    finish = train.Run.finish_step

    def die(self, config, step, *rest):
        finish(self, config, step, *rest)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "finish_step", die)
        with pytest.raises(KeyboardInterrupt):
            train.train_and_evaluate(config, "cut", tmp_path / "cut")
    train.train_and_evaluate(config, "cut", tmp_path / "cut", resume=True)
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    summaries = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("cut", "whole")]
    assert summaries[0]["after"] == summaries[1]["after"]


def test_wordings_are_those_of_the_task_or_the_question_as_asked():
    def surface(item, steps, rng):
        return None if item.id == 1 else (dataclasses.replace(item, question="x" * 3), [])

    @dataclasses.dataclass(frozen=True)
    class Asked:
        id: int
        question: str

    task = SimpleNamespace(
        surface=surface, prompt=lambda item: item.question, system="", chat=False
    )
    render = lambda text, system, chat: [ord(c) for c in text]  # noqa: E731
    solver = SimpleNamespace(task=task, tokenizer=SimpleNamespace(render=render))
    prompts = Prompts(jnp.full((2, S), 7), jnp.ones((2, S), bool), jnp.arange(2))
    items, found = intervened.surfaces(solver, [Asked(0, "a"), Asked(1, "b")], prompts, 2, (0, 1))
    assert [item.question for item in items] == ["xxx", "xxx", "b", "b"]
    np.testing.assert_array_equal(found.ids, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.tokens[0], [120, 120, 120, 0])
    np.testing.assert_array_equal(found.mask[0], [1, 1, 1, 0])
    np.testing.assert_array_equal(found.tokens[2:], 7)

"""Values and outcome in other words: placebos on the tiny policy, weights by hand."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.analysis.library import prompts_of
from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual import read, transport
from gccpo_jax.counterfactual.places import places_of
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.traces import Seen, sample_traces
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.types import Spans

T, G = 32, 3
SECTION = CounterfactualConfig(boundaries=3, draws=2, transport="surface", transport_arms=2)


@pytest.fixture(scope="module")
def model():
    task = chain(ChainConfig(train=4, id=4, ood=4, max_operations=2, seed=3))
    return open_model("tiny", task)


@pytest.fixture(scope="module")
def seen(model):
    """Sampled trajectories as the policy encodes them, so that only words can differ."""
    items = model.solver.task.splits["id"]
    traces = sample_traces(
        model.solver,
        model.params,
        items,
        prompts_of(model.solver, items),
        group=G,
        rule=Rule(1.0),
        max_tokens=T,
        seed=(0, 0),
        watch=Stopwatch(),
    )
    return Seen(model.solver, model.params, traces).read_by(model.params)


def with_task(seen, **changes):
    task = dataclasses.replace(seen.solver.task, **changes)
    return dataclasses.replace(seen, solver=dataclasses.replace(seen.solver, task=task))


def same_words(item, steps, rng):
    return item, list(steps)


def test_the_same_words_give_the_factual_effects_bit_by_bit(seen):
    places = places_of(seen, SegmentationConfig(), SECTION.boundaries)
    moved = transport.transport(with_task(seen, surface=same_words), places, SECTION)
    assert moved.exists.all() and moved.arms == 2
    there = transport.begin_values(moved, SECTION)()
    values, outcome = there.value, there.outcome
    factual = read.begin_values(seen, places.spans, SECTION)().value
    before = np.asarray(places.spans.mask)
    inner = before & np.append(before[..., 1:], np.zeros_like(before[..., :1]), -1)
    # A boundary at the answer field itself is read where the field begins, as it is there.
    plain = inner & (np.asarray(places.spans.end) <= places.answer[..., None])
    assert plain.sum() > 5
    np.testing.assert_array_equal(values[plain], factual[plain])
    assert np.isfinite(outcome).all() and np.isnan(values[~inner]).all()
    for a, b in zip(moved.seen.traces.tokens[::2], seen.traces.tokens, strict=True):
        np.testing.assert_array_equal(a, b)
    rho = transport.step_robustness(seen, places, moved)
    np.testing.assert_allclose(rho[before], 1.0, atol=1e-4)


def test_other_words_keep_steps_and_stop_and_other_numbers_have_their_own_answers(seen):
    places = places_of(seen, SegmentationConfig(), SECTION.boundaries)
    both = dataclasses.replace(SECTION, transport="both", transport_arms=1)
    moved = transport.transport(seen, places, both)
    assert moved.arms == 2
    lengths = moved.by_question(moved.seen.traces.lengths)
    exists = moved.by_question(moved.exists)
    words, numbers = exists[:, 0], exists[:, 1]
    assert words.all() and numbers.mean() > 0.5
    np.testing.assert_array_equal(lengths[:, 0], seen.traces.lengths)  # one word for another
    items = moved.seen.traces.items
    for b, item in enumerate(seen.traces.items):
        assert items[2 * b].answer == item.answer and items[2 * b].question != item.question
        assert items[2 * b + 1].answer != item.answer
    stopped = moved.by_question(np.asarray(moved.seen.traces.rollout.stopped))
    np.testing.assert_array_equal(stopped[:, 0], np.asarray(seen.traces.rollout.stopped))


def test_a_task_without_the_rewrite_has_values_nowhere(seen):
    places = places_of(seen, SegmentationConfig(), SECTION.boundaries)
    moved = transport.transport(with_task(seen, surface=lambda *_: None), places, SECTION)
    found = transport.begin_values(moved, SECTION)()
    values, outcome, tokens = found.value, found.outcome, found.tokens
    assert not moved.exists.any() and np.isnan(values).all() and np.isnan(outcome).all()
    assert tokens == 0


def spans(*rows):
    start, end = np.array(rows).T
    return Spans(*(jnp.asarray(x)[None, None] for x in (start, end, np.ones(len(rows), bool))))


def test_weights_are_token_by_token_where_a_step_kept_its_length_else_of_the_step():
    asked = jnp.log(jnp.array([[[0.5, 0.5, 0.8, 0.2, 1.0]]]))
    there = jnp.log(jnp.array([[[0.25, 1.0, 0.1, 1.0, 1.0]]]))
    got = transport.token_weights(asked, spans((0, 2), (2, 4)), there, spans((0, 2), (2, 3)))
    second = 0.1 / math.sqrt(0.8 * 0.2)  # one token for two: geometric means
    np.testing.assert_allclose(got[0, 0], [0.5, 1.0, second, 0.0, 0.0], rtol=1e-5)

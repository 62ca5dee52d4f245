"""Branches from where they leave their trajectory are those from the boundary, token by token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.analysis.library import prompts_of
from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual import departures as departing
from gccpo_jax.counterfactual import read
from gccpo_jax.counterfactual.departed import tokens_again
from gccpo_jax.counterfactual.departures import departures, sources
from gccpo_jax.counterfactual.places import places_of
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import at_sites, continue_branches, fresh_tapes
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.sites import boundary
from gccpo_jax.sampling.traces import Seen, sample_traces
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from tests.helpers import toy
from tests.helpers.rollouts import MASKED, PLAIN, ROOT, ROWS, G
from tests.helpers.runs import metrics, small

LIMIT, DRAWS = 20, 5
SECTION = CounterfactualConfig(draws=3)
DEPARTED = dataclasses.replace(SECTION, from_departure=True)


@pytest.mark.parametrize("rule", [PLAIN, MASKED, Rule(0.4)])
def test_a_branch_leaves_its_trajectory_where_it_differs(rule, monkeypatch):
    """Beside branches that are decoded from the boundaries on; places over several pieces."""
    monkeypatch.setattr(departing, "AT_ONCE", 1)  # no piece is read that is not asked for
    prompts = toy.prompts(ROWS)
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    sampled = dict(group=G, rule=rule, max_tokens=LIMIT)
    prompt, rollout = sample(toy.POLICY, toy.PARAMS, prompts, keys, toy.IS_STOP, **sampled)
    tokens, length = np.asarray(rollout.tokens), np.asarray(rollout.length)
    ends = np.stack([1 + 0 * length, (length + 1) // 2, length, 1 + 0 * length], -1)
    early = np.arange(G) == 0  # of the others the first pieces are not read
    where = np.stack([early & (length > 1), length > 2, length > 2, length < 0], -1)
    tapes = fresh_tapes(keys, G, DRAWS)
    cache = (prompt, rollout.segment)
    found = departures(
        toy.POLICY, toy.PARAMS, *cache, rollout.tokens, rollout.length, tapes,
        jnp.asarray(ends), jnp.asarray(where), rule=rule,
    )  # fmt: skip
    of_sites = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    of_group = jax.vmap(of_sites, in_axes=(None, None, 0, 0, 0))
    sites = jax.vmap(of_group)(
        prompts.tokens, prompts.mask.sum(-1), rollout.tokens, jnp.asarray(ends), jnp.asarray(where)
    )
    branches = continue_branches(
        toy.POLICY, toy.PARAMS, *cache, sites, at_sites(noise.keyed(tapes, toy.V), 4), toy.IS_STOP,
        rule=rule, max_tokens=LIMIT, limit=LIMIT,
    )  # fmt: skip
    written, count = np.asarray(branches.tokens), np.asarray(branches.length)
    never = 0
    for b, g, k, n in np.ndindex(found.shape):
        if where[b, g, k]:
            end = ends[b, g, k]
            rest, own = tokens[b, g, end : length[b, g]], written[b, g, k, n, : count[b, g, k, n]]
            size = min(len(rest), len(own))
            apart = np.flatnonzero(rest[:size] != own[:size])
            assert found[b, g, k, n] == end + (apart[0] if apart.size else len(rest))
            never += len(rest) > 0 and not apart.size
    assert never > 0 and (np.asarray(found) < length[..., None, None]).sum() > 20


def test_branches_that_leave_at_one_place_are_decoded_once():
    leaves = jnp.array([5, 5, 9, 12, 5])[None, None, :, None]
    length = jnp.array([[12]])

    def found(*where):
        first, needed = sources(leaves, length, jnp.array(where)[None, None] > 0)
        return np.ravel(first).tolist(), np.ravel(needed).tolist()

    assert found(1, 1, 1, 1, 1) == ([0, 0, 2, 3, 0], [True, False, True, False, False])
    first, needed = found(0, 1, 0, 1, 1)  # a boundary that is not asked for is nobody's source
    assert (first[1], first[4]) == (1, 1) and needed == [False, True, False, False, False]
    assert tokens_again(np.array([[12, 7]]), np.array([[[5, 9], [2, 7]]]), np.array(
        [[[False, True], [False, False]]]
    )) == 3  # fmt: skip


@pytest.fixture(scope="module", params=[32, 18], ids=["all end", "some are cut"])
def read_at(request):
    """Trajectories of the tiny policy, and where they are read."""
    task = chain(ChainConfig(train=4, id=8, ood=4, max_operations=3, seed=3))
    model = open_model("tiny", task)
    items = task.splits["id"]
    sampled = sample_traces(
        model.solver, model.params, items, prompts_of(model.solver, items),
        group=4, rule=Rule(1.0), max_tokens=request.param, seed=(0, 0), watch=Stopwatch(),
    )  # fmt: skip
    assert request.param == 32 or not np.asarray(sampled.rollout.stopped).all()
    seen = Seen(model.solver, model.params, sampled)
    return seen, places_of(seen, SegmentationConfig(), 3).spans


def same(found, wanted, where=...):
    """That two readings have the same branches, at some boundaries."""
    a, b = found.written, wanted.written
    np.testing.assert_array_equal(a.score[where], b.score[where])
    length = np.asarray(b.branches.length)
    np.testing.assert_array_equal(np.asarray(a.branches.length)[where], length[where])
    size = max(length.max(), 1)
    for name, tolerance in (("tokens", 0), ("logp", 3e-5)):
        x, y = (np.asarray(getattr(w.branches, name))[..., :size][where] for w in (a, b))
        np.testing.assert_allclose(x, y, atol=tolerance)


@pytest.mark.slow
def test_a_run_is_the_same_for_fewer_tokens(tmp_path):
    """All that a step logs, where branches train as well; but for what the branches cost."""
    found = []
    for name, departed in (("whole", False), ("departed", True)):
        config = small(
            steps=1, counterfactual__from_departure=departed, optim__train_branches=True,
            checkpoint__every=0,
        )  # fmt: skip
        train.train_and_evaluate(config, "small", tmp_path / name)
        found += metrics(tmp_path / name)
    whole, departed = found
    again = departed.pop("departure_tokens")
    spared = whole.pop("branch_tokens") - departed.pop("branch_tokens")
    assert spared > again > 0
    assert whole.pop("forward_tokens") - departed.pop("forward_tokens") == spared - again
    assert departed == pytest.approx(whole, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("known", [False, True])
def test_a_reading_is_the_same_for_fewer_tokens(read_at, known):
    seen, spans = read_at
    sections = (dataclasses.replace(x, known_rest=known) for x in (SECTION, DEPARTED))
    whole, departed = (read.begin_values(seen, spans, section)() for section in sections)
    same(departed, whole)
    np.testing.assert_allclose(departed.value, whole.value, atol=1e-6)
    assert 0 < departed.tokens < 0.6 * whole.tokens
    assert whole.again == 0 < departed.again < seen.traces.lengths.sum()
    assert np.isfinite(departed.value).sum() > 20


def test_a_branch_is_the_same_whichever_others_there_are(read_at):
    seen, spans = read_at
    drawn = np.random.default_rng(0).random(spans.mask[..., 1:].shape) < 0.5
    whole = read.begin_values(seen, spans, DEPARTED)()
    part = read.begin_values(seen, spans, DEPARTED, jnp.asarray(drawn))()
    same(part, whole, drawn)
    assert np.isnan(part.written.score[~drawn]).all() and 0 < part.tokens < whole.tokens
    fewer = read.begin_values(seen, spans, dataclasses.replace(DEPARTED, draws=1))()
    np.testing.assert_array_equal(fewer.written.score[..., 0], whole.written.score[..., 0])

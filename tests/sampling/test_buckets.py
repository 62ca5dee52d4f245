"""Buffers of a bounded number of lengths change nothing but what they cost."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.counterfactual import readers
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import buckets, noise, rollouts
from gccpo_jax.sampling.branches import Branches
from gccpo_jax.sampling.questions import TrainBatches
from gccpo_jax.sampling.ring_queue import sampler
from gccpo_jax.sampling.rollouts import open_row, resized, run, sample_whole
from gccpo_jax.sampling.traces import encode_traces
from gccpo_jax.training.experience import collect
from gccpo_jax.training.session import open_session
from gccpo_jax.types import Segment, UpdateBatch
from tests.helpers import toy
from tests.helpers.rollouts import MASKED, PLAIN, ROOT, ROWS, G, T, draw
from tests.helpers.runs import small


@pytest.mark.parametrize(
    ("limit", "factor", "found"),
    [
        (1, 2, (1,)),
        (63, 2, (63,)),
        (64, 2, (32, 64)),
        (112, 2, (56, 112)),
        (127, 4, (127,)),
        (1024, 2, (32, 64, 128, 256, 512, 1024)),
        (4096, 4, (64, 256, 1024, 4096)),
    ],
)
def test_lengths_are_few_and_end_with_the_limit(limit, factor, found):
    assert buckets.sizes(limit, factor) == found


def test_the_shortest_that_holds_the_longest():
    assert [buckets.fitting(100, n) for n in (0, 50, 51, 100, 101)] == [50, 50, 100, 100, 100]


def test_whatever_the_lengths_there_are_few_shapes():
    assert {buckets.fitting(4096, n) for n in range(1, 4097)} == set(buckets.sizes(4096))


@pytest.mark.parametrize(
    ("limit", "trains", "went_on_from", "size"),
    [(64, 30, 0, 32), (64, 33, 0, 64), (64, 30, 40, 64), (63, 30, 0, 63), (64, 0, 0, 32)],
)
def test_the_update_reads_no_place_behind_the_longest_row(limit, trains, went_on_from, size):
    places = jnp.broadcast_to(jnp.arange(limit), (2, 2, limit))
    numbers = places.astype(jnp.float32)
    prompt = jnp.ones((2, 99), jnp.int32)
    batch = UpdateBatch(
        prompt,
        prompt > 0,
        places,
        places < trains,
        numbers,
        numbers,
        numbers,
        jnp.ones((2, 2)),
        anchor_logp=numbers,
        context=places < went_on_from,
    )
    found = train.compact(batch)
    for name in ("prompt", "prompt_mask", "reward"):
        np.testing.assert_array_equal(getattr(found, name), getattr(batch, name))
    for name in ("tokens", "mask", "advantage", "behaviour_logp", "anchor_logp", "context"):
        np.testing.assert_array_equal(getattr(found, name), getattr(batch, name)[..., :size])


@pytest.mark.parametrize(
    ("written", "last", "cut"),
    [(3, 7, False), (4, 7, True), (4, 1, False), (0, 7, False)],
    ids=["ended by itself", "at the limit", "stopped at the limit", "no branch"],
)
def test_a_branch_is_cut_where_the_limit_ends_it(written, last, cut):
    tokens = np.zeros((1, 1, 1, 1, 8), np.int32)
    tokens[..., max(written - 1, 0)] = last
    branches = Branches(tokens, tokens, np.full((1, 1, 1, 1), written))
    stop = np.arange(9) == 1
    assert readers._is_cut(branches, np.full((1, 1, 1), 6), 10, stop) == cut


@pytest.fixture
def least(monkeypatch):
    """Sets `LEAST` for the programs that are made from now on."""

    def put(tokens):
        jax.clear_caches()
        monkeypatch.setattr(buckets, "LEAST", tokens)

    yield put
    jax.clear_caches()


def test_growing_buffers_give_the_same_rollouts_bit_by_bit(least):
    found = []
    for tokens in (T, 2):
        least(tokens)
        assert len(buckets.sizes(T, 4)) == (1 if tokens == T else 2)
        found.append(draw(rule=MASKED))
    assert np.asarray(found[0][1].length).max() == T, "some should outgrow the first buffer"
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.parametrize("slots", [0, 2])
def test_nothing_is_laid_out_for_a_limit_that_nothing_reaches(least, monkeypatch, slots):
    least(4)
    longer, went_on = rollouts._longer, []

    def note(*given, max_tokens, **how):
        went_on.append(max_tokens)
        return longer(*given, max_tokens=max_tokens, **how)

    monkeypatch.setattr(rollouts, "_longer", note)
    prompts = toy.prompts(ROWS[:1], 4)
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    given = (toy.POLICY, toy.PARAMS, prompts, keys, toy.IS_STOP)
    how = {"group": G, "rule": PLAIN, "max_tokens": 64}
    found = sampler(slots)(*given, **how)
    prompt, wanted = sample_whole(*given, **how)
    assert int(wanted.length.max()) == 6 and wanted.tokens.shape[-1] == 64
    assert went_on == ([] if slots else [16])
    assert found[1].tokens.shape[-1] == found[1].segment.k.shape[-2] == 8
    wanted = prompt, resized(wanted, 8)
    if slots:  # attention adds in another order, and caches differ behind the last token
        found, wanted = (
            (x.tokens, x.length, x.stopped, x.segment.mask) for _, x in (found, wanted)
        )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_given_responses_are_held_in_the_shortest_buffer_and_keep_their_limit():
    solver = SimpleNamespace(
        policy=toy.POLICY,
        stop=toy.IS_STOP,
        tokenizer=SimpleNamespace(decode=lambda ids, skip_special: f"{len(ids)}"),
        task=SimpleNamespace(verify=lambda item, text: float(text), needs_gold=False),
    )
    prompts, lengths = toy.prompts(ROWS[:1], 4), np.array([[3, 20]])
    tokens = np.where(np.arange(128) < lengths[..., None], 1, 0).astype(np.int32)
    given = (solver, toy.PARAMS, [SimpleNamespace(answer=None)], prompts, tokens, lengths)
    found = encode_traces(*given, rule=PLAIN, seed=(0, 1))
    assert found.limit == 128 and found.outcome.tolist() == lengths.tolist()
    np.testing.assert_array_equal(found.tokens, tokens[..., :32])
    np.testing.assert_array_equal(found.rollout.segment.mask.sum(-1), lengths)


def test_early_tokens_have_short_buffers(least):
    least(2)
    seen = []

    def step(t, rows):
        sizes = rows.rollout.tokens.shape[-1], *(x.shape[-2] for x in rows.rollout.segment.k)
        seen.append(sizes)
        return rows

    nothing = Segment(jnp.zeros((2, 1, 3, 4)), jnp.zeros((2, 1, 3, 4)), jnp.ones(3, bool))
    row = open_row(nothing, jnp.zeros(5), T)
    found = jax.eval_shape(lambda row: run(step, row, T), row).rollout
    assert set(seen) == {(2, 5, 5), (T, 3 + T, 3 + T)}
    assert found.tokens.shape == (T,) and found.segment.k.shape == (2, 1, 3 + T, 4)


@pytest.mark.slow
def test_a_limit_that_nothing_reaches_changes_no_experience(least, monkeypatch):
    """Sampling, branches, readings and what the update reads, with buffers of the limit and short.

    The last is with branches that outgrow their first buffer and are drawn again.
    """
    config = small(sampling__max_tokens=160, data__max_prompt_tokens=38, eval__ood_questions=0)
    session, params = open_session(config)

    def gathered():
        batches = TrainBatches(session.train, config.batch_size, config.seed)
        items, prompts = train.next_questions(batches, session.mesh)
        return collect(session.solver, config, params, items, prompts, 1, Stopwatch())

    least(1000)
    wanted = gathered()
    longest = int(np.asarray(wanted.rollout.length).max())
    assert wanted.rollout.tokens.shape[-1] == wanted.advantage.shape[-1] == 160
    least(32)
    short, drawn = gathered(), []
    outgrown = lambda seen, sites, limit: int(readers._begun(sites).max()) + 1  # noqa: E731
    monkeypatch.setattr(readers, "_first_buffer", outgrown)
    draw_queue = readers.queue_branches

    def count(*given, **how):
        drawn.append(how)
        return draw_queue(*given, **how)

    monkeypatch.setattr(readers, "queue_branches", count)
    again = gathered()
    first, second = (how["limit"] for how in drawn)
    assert first <= longest + 1 and second == buckets.fitting(160, 2 * first) < 160
    held = buckets.fitting(160, longest)
    assert longest <= held == 40 < 160
    for found in (short, again):
        assert found.rollout.tokens.shape[-1] == found.advantage.shape[-1] == held
        padded = buckets.padded(np.asarray(found.rollout.tokens), 160)
        np.testing.assert_array_equal(padded, wanted.rollout.tokens)
        np.testing.assert_array_equal(found.texts, wanted.texts)
        np.testing.assert_array_equal(found.reading.value, wanted.reading.value)
        written, other = found.evidence.written.branches, wanted.evidence.written.branches
        size = min(written.tokens.shape[-1], 160)
        np.testing.assert_array_equal(written.length, other.length)
        np.testing.assert_array_equal(written.tokens[..., :size], other.tokens[..., :size])
        for name in ("factual", "energy"):
            a, b = getattr(found.reading, name), getattr(wanted.reading, name)
            np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)
        advantage = buckets.padded(np.asarray(found.advantage), 160)
        np.testing.assert_allclose(advantage, wanted.advantage, atol=1e-4)

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import at_sites, continue_branches, fresh_tapes, resampling_tapes
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.sites import Sites, boundary
from gccpo_jax.steps import find_steps
from gccpo_jax.types import Segment
from tests.helpers import oracles, toy
from tests.helpers.rollouts import PLAIN, ROOT, G, T, draw

DRAWS, LIMIT = 1500, 3
GOOD = 4  # the outcome of a toy branch: whether this token occurs in it
NO_BOUNDARY = jnp.zeros(toy.V, bool)


def boundaries(prompts, rollout, ends, exists) -> Sites:
    of_sites = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    of_group = jax.vmap(of_sites, in_axes=(None, None, 0, 0, 0))
    lengths = jnp.sum(prompts.mask, axis=-1, dtype=jnp.int32)
    return jax.vmap(of_group)(
        prompts.tokens, lengths, rollout.tokens, jnp.asarray(ends), jnp.asarray(exists)
    )


def test_a_branch_replays_the_tape_it_is_given():
    """T2. A rollout sampled from draw 2 is what draw 2 of its branches goes on with, also
    from before its first token."""
    prompts = toy.prompts([0, 1, 2, 3])
    prompt, rollout = draw(draw=2)
    length = np.asarray(rollout.length)
    ends = np.stack([np.zeros_like(length), (length + 1) // 2, length], -1)
    full = (length == T) & ~np.asarray(rollout.stopped)  # nothing may follow
    assert full.any()
    exists = np.stack([length > 0, length > 2, full], -1)
    keys = noise.question_keys(ROOT, 0, prompts.ids)
    tapes = noise.keyed(fresh_tapes(keys, G, 2), toy.V)
    branches = continue_branches(
        toy.POLICY,
        toy.PARAMS,
        prompt,
        rollout.segment,
        boundaries(prompts, rollout, ends, exists),
        at_sites(tapes, 3),
        toy.IS_STOP,
        rule=PLAIN,
        max_tokens=T,
        limit=T,
    )
    got, other = np.asarray(branches.tokens[:, :, :, 1]), np.asarray(branches.tokens[:, :, :, 0])
    agree = []
    for b, g, k in np.ndindex(4, G, 3):
        end, n = ends[b, g, k], length[b, g]
        if not exists[b, g, k]:
            assert not np.any(branches.length[b, g, k]) and not np.any(branches.tokens[b, g, k])
            continue
        rest = np.asarray(rollout.tokens)[b, g, end:n]
        np.testing.assert_array_equal(got[b, g, k, : n - end], rest)
        assert branches.length[b, g, k, 1] == n - end, "cut where the rollout would be"
        agree.append(np.array_equal(other[b, g, k, : n - end], rest))
    assert len(agree) > 10 and not all(agree), "draw 1 is another tape"


def caches(texts):
    """The prompt (question 2) and the texts as one group of given trajectories."""
    prompts = toy.prompts([2])
    encode = lambda t, at, m: toy.POLICY.encode(toy.PARAMS, t, at, m, ())[1]  # noqa: E731
    prompt = jax.vmap(lambda t, m: encode(t, jnp.arange(4), m), out_axes=Segment(1, 1, 0))(
        prompts.tokens, prompts.mask
    )
    tokens = jnp.asarray([np.pad(text, (0, T - len(text))) for text in texts])
    mask = jnp.arange(T)[None] < jnp.array([[len(text)] for text in texts])
    at = len(toy.PROMPTS[2]) + jnp.arange(T)
    segment = jax.vmap(lambda t, m: encode(t, at, m), out_axes=Segment(1, 1, 0))(tokens, mask)
    segment = Segment(segment.k[:, None], segment.v[:, None], segment.mask[None])
    return prompts, prompt, segment


def outcomes(texts, starts=None, seed=0, keep=0):
    """Outcome [arms, DRAWS] of branches from (prompt 2, text).

    Each text replaces the whole of one trajectory (`keep` 0) or what follows its first
    `keep` tokens; the tape is read from `starts`.
    """
    prompts, prompt, segment = caches([texts[0]])
    width = max(map(len, texts)) - keep
    starts = starts or [len(text) for text in texts]
    sites = Sites(
        keep=jnp.full((1, 1, len(texts)), keep),
        tokens=jnp.asarray([[[np.pad(t[keep:], (0, width - len(t) + keep)) for t in texts]]]),
        length=jnp.array([[[len(text) - keep for text in texts]]]),
        tape=jnp.array([[starts]]),
        exists=jnp.ones((1, 1, len(texts)), bool),
    )
    keys = noise.question_keys(jax.random.key(seed), 0, prompts.ids)
    tapes = at_sites(noise.keyed(fresh_tapes(keys, 1, DRAWS), toy.V), len(texts))
    branches = continue_branches(
        toy.POLICY, toy.PARAMS, prompt, segment, sites, tapes, toy.IS_STOP, NO_BOUNDARY,
        rule=PLAIN, max_tokens=LIMIT, limit=T,
    )  # fmt: skip
    return np.any(branches.tokens[0, 0] == GOOD, axis=-1).astype(float)


def exact(text) -> float:
    """The value of a prefix: every continuation, weighted by its known probability."""
    known = lambda text: oracles.law(toy.next_logits(text))  # noqa: E731
    branches = oracles.continuations(known, [*toy.PROMPTS[2], *text], toy.STOP, LIMIT)
    assert sum(branches.values()) == pytest.approx(1)
    return sum(p for tokens, p in branches.items() if GOOD in tokens)


FACTUAL, SAME_LENGTH, LONGER = [2, 5, 1], [2, 3, 1], [2, 3, 5, 3, 1]


@pytest.mark.parametrize("keep", [0, 1])
def test_the_value_of_a_replaced_step_is_unbiased(keep):
    """Also where a part of the prefix is the cache of another text."""
    texts = [FACTUAL, SAME_LENGTH, LONGER]
    for text, found in zip(texts, outcomes(texts, keep=keep), strict=True):
        phi = np.nanmean(found)
        value = exact(text)
        assert abs(phi - value) < 3.5 * np.sqrt(value * (1 - value) / DRAWS)


@pytest.mark.parametrize("replaced", [SAME_LENGTH, LONGER])
def test_shared_noise_has_the_same_mean_and_a_lower_variance(replaced):
    """T6. Arms aligned by the offset after the step; a tape shifted by one loses the gain."""
    texts, end = [FACTUAL, replaced], len(FACTUAL)
    shared = np.subtract(*outcomes(texts, [end, end]))
    shifted = np.subtract(*outcomes(texts, [end, end + 1]))
    independent = outcomes(texts, [end, end])[0] - outcomes(texts, [end, end], seed=1)[1]
    difference = exact(FACTUAL) - exact(replaced)
    for sample in (shared, shifted, independent):
        assert abs(sample.mean() - difference) < 3.5 * sample.std() / np.sqrt(DRAWS)
    assert shared.var() < 0.8 * independent.var()
    assert shared.var() < 0.8 * shifted.var()


def test_the_same_tokens_in_place_of_a_step_are_a_placebo():
    """T1 for the continued reader: no branch changes, so D^cf is 0 bit by bit."""
    same = outcomes([LONGER, LONGER, SAME_LENGTH], [5, 5, 5], keep=2)
    np.testing.assert_array_equal(same[0], same[1])
    assert np.any(same[0] != same[2])


def test_a_site_that_has_ended_has_no_branches():
    prompts, prompt, segment = caches([[2, 3, toy.STOP]])
    sites = Sites(
        *(jnp.array([[x]]) for x in ([1, 0], [[3, 0], [3, 4]], [2, 2], [3, 3], [True, True]))
    )
    keys = fresh_tapes(noise.question_keys(ROOT, 0, prompts.ids), 1, 4)
    tapes = at_sites(noise.keyed(keys, toy.V), 2)
    found = continue_branches(
        toy.POLICY, toy.PARAMS, prompt, segment, sites, tapes,
        toy.IS_STOP, rule=PLAIN, max_tokens=T, limit=T,
    )  # fmt: skip
    assert not np.any(found.length[0, 0, 0]) and np.all(found.length[0, 0, 1] > 0)


def test_a_step_is_resampled_from_the_law_of_the_policy():
    """First tokens in the right proportions, and an end where a step ends."""
    prompts, prompt, segment = caches([FACTUAL])
    ends = jnp.array([[[0, 2]]])  # before the first token; after two of them
    lengths = jnp.array([len(toy.PROMPTS[2])])
    at = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    sites = at(prompts.tokens[0], lengths[0], jnp.array(FACTUAL), ends[0, 0], jnp.ones(2, bool))
    sites = jax.tree.map(lambda x: x[None, None], sites)
    keys = resampling_tapes(noise.question_keys(ROOT, 0, prompts.ids), 1, 2, DRAWS)
    tapes = Tape(keys, jnp.zeros((1, 1, DRAWS, 0, toy.V)))
    found = continue_branches(
        toy.POLICY, toy.PARAMS, prompt, segment, sites, tapes, toy.IS_STOP,
        jnp.arange(toy.V) == toy.BOUNDARY, rule=PLAIN, max_tokens=6, limit=T, min_tokens=2,
    )  # fmt: skip
    tokens, length = np.asarray(found.tokens)[0, 0], np.asarray(found.length)[0, 0]
    for k, end in enumerate([0, 2]):
        law = oracles.law(toy.next_logits([*toy.PROMPTS[2], *FACTUAL[:end]]))
        share = np.bincount(tokens[k, :, 0], minlength=toy.V) / DRAWS
        assert np.abs(share - law).max() < 3.5 * np.sqrt(0.25 / DRAWS)
        for row, n in zip(tokens[k], length[k], strict=True):
            inner = row[: n - 1]
            assert toy.STOP not in inner and toy.BOUNDARY not in inner[1:]
            assert n == 6 or row[n - 1] == toy.STOP or (row[n - 1] == toy.BOUNDARY and n >= 2)
    assert np.any(tokens[0] != tokens[1]), "another step has other noise"


def test_a_macro_step_is_resampled_with_as_many_steps():
    """Where a branch ends is where `find_steps` ends the n-th step of what it wrote."""
    prompts, prompt, segment = caches([FACTUAL])
    length = jnp.array(len(toy.PROMPTS[2]))
    at = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    ends, exist = jnp.array([0, 0, 2]), jnp.ones(3, bool)
    sites = at(prompts.tokens[0], length, jnp.array(FACTUAL), ends, exist)
    sites = jax.tree.map(lambda x: x[None, None], sites)
    keys = resampling_tapes(noise.question_keys(ROOT, 0, prompts.ids), 1, 3, 200)
    tapes = Tape(keys, jnp.zeros((1, 1, 200, 0, toy.V)))
    is_boundary, counts = jnp.arange(toy.V) == toy.BOUNDARY, [1, 2, 3]
    long = 14  # tokens that a branch may have, with its prefix
    for most in (0, 3):
        found = continue_branches(
            toy.POLICY,
            toy.PARAMS,
            prompt,
            segment,
            sites,
            tapes,
            toy.IS_STOP,
            is_boundary,
            jnp.array([[counts]]),
            rule=PLAIN,
            max_tokens=long,
            limit=long,
            min_tokens=2,
            most_tokens=most,
        )
        cut = partial(find_steps, max_steps=long, min_tokens=2, max_tokens=most)
        steps = jax.vmap(jax.vmap(cut))(is_boundary[found.tokens[0, 0]], found.length[0, 0])
        written, length = np.asarray(steps.mask.sum(-1)), np.asarray(found.length[0, 0])
        rows = np.arange(long) == (length - 1)[..., None]
        last = np.asarray(found.tokens)[0, 0][rows].reshape(length.shape)
        room = long - np.array([0, 0, 2])[:, None]
        by_itself = (last != toy.STOP) & (length < room)
        for k, count in enumerate(counts):
            assert (written[k] <= count).all()
            assert by_itself[k].any() and (written[k][by_itself[k]] == count).all()

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import toy
from test_sampling import PLAIN, ROOT, G, T, draw

from gccpo_jax import noise, reward
from gccpo_jax.branches import continue_branches
from gccpo_jax.types import Rollout, Segment

DRAWS, LIMIT = 1500, 3
GOOD = 4  # the outcome of a toy branch: whether this token occurs in it


def test_a_branch_replays_the_tape_it_is_given():
    """A rollout sampled from draw 2 is what draw 2 of its branches goes on with."""
    prompt, rollout = draw(draw=2)
    length = np.asarray(rollout.length)
    ends = np.stack([np.ones_like(length), (length + 1) // 2, length], -1)
    full = (length == T) & ~np.asarray(rollout.stopped)  # nothing may follow
    assert full.any()
    exists = np.stack([length > 1, length > 2, full], -1)
    branches = continue_branches(
        toy.POLICY,
        toy.PARAMS,
        prompt,
        rollout,
        jnp.asarray(ends),
        jnp.asarray(exists),
        noise.question_keys(ROOT, 0, toy.prompts([0, 1, 2, 3]).ids),
        toy.IS_STOP,
        draws=2,
        rule=PLAIN,
        max_tokens=T,
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


def outcomes(texts, starts=None, seed=0):
    """Outcome [arms, DRAWS] of branches from (prompt 2, text), one arm a boundary.

    Every arm is a call of its own with the keys of `seed`: what arms share is the tape.
    """
    prompts = toy.prompts([2])
    prompt = jax.vmap(
        lambda t, m: toy.POLICY.encode(toy.PARAMS, t, jnp.arange(4), m, ())[1],
        out_axes=Segment(1, 1, 0),
    )(prompts.tokens, prompts.mask)
    keys = noise.question_keys(jax.random.key(seed), 0, prompts.ids)
    results = []
    for text, start in zip(texts, starts or map(len, texts), strict=True):
        tokens = jnp.asarray(np.pad(text, (0, T - len(text))))
        mask = jnp.arange(T) < len(text)
        length = len(toy.PROMPTS[2])
        _, segment = toy.POLICY.encode(toy.PARAMS, tokens, length + jnp.arange(T), mask, ())
        zero = jnp.zeros((1, 1, T))
        rollout = Rollout(
            tokens[None, None],
            zero,
            zero,
            jnp.array([[len(text)]]),
            jnp.zeros((1, 1), bool),
            Segment(segment.k[:, None, None], segment.v[:, None, None], mask[None, None]),
        )
        branches = continue_branches(
            toy.POLICY,
            toy.PARAMS,
            prompt,
            rollout,
            jnp.array([[[len(text)]]]),
            jnp.ones((1, 1, 1), bool),
            keys,
            toy.IS_STOP,
            jnp.array([[[start]]]),
            draws=DRAWS,
            rule=PLAIN,
            max_tokens=LIMIT,
        )
        results.append(np.any(branches.tokens[0, 0, 0] == GOOD, axis=-1).astype(float))
    return np.array(results)


def exact(text) -> float:
    """The value of a prefix: every continuation, weighted by its known probability."""
    known = lambda text: oracles.law(toy.next_logits(text))  # noqa: E731
    branches = oracles.continuations(known, [*toy.PROMPTS[2], *text], toy.STOP, LIMIT)
    assert sum(branches.values()) == pytest.approx(1)
    return sum(p for tokens, p in branches.items() if GOOD in tokens)


FACTUAL, SAME_LENGTH, LONGER = [2, 5, 1], [2, 3, 1], [2, 3, 5, 3, 1]


@pytest.mark.parametrize("text", [FACTUAL, LONGER])
def test_the_value_of_a_prefix_is_unbiased(text):
    phi = reward.branch_values(jnp.asarray(outcomes([text])))[0]
    value = exact(text)
    assert abs(phi - value) < 3.5 * np.sqrt(value * (1 - value) / DRAWS)


@pytest.mark.parametrize("replaced", [SAME_LENGTH, LONGER])
def test_shared_noise_has_the_same_mean_and_a_lower_variance(replaced):
    """Arms aligned by the offset after the step; a tape shifted by one loses the gain."""
    texts, end = [FACTUAL, replaced], len(FACTUAL)
    shared = np.subtract(*outcomes(texts, [end, end]))
    shifted = np.subtract(*outcomes(texts, [end, end + 1]))
    independent = outcomes(texts[:1], [end])[0] - outcomes(texts[1:], [end], seed=1)[0]
    difference = exact(FACTUAL) - exact(replaced)
    for sample in (shared, shifted, independent):
        assert abs(sample.mean() - difference) < 3.5 * sample.std() / np.sqrt(DRAWS)
    assert shared.var() < 0.8 * independent.var()
    assert shared.var() < 0.8 * shifted.var()

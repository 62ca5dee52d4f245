from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import ROW_AXES, Row, open_row, run
from gccpo_jax.types import Segment
from tests.helpers import oracles, toy
from tests.helpers.rollouts import GREEDY, MASKED, PLAIN, ROOT, ROWS, G, T, draw, gumbels_of

LESS = 4


@pytest.fixture(scope="module")
def rollout():
    return draw()[1]


def test_replaying_the_keys_gives_the_same_tokens(rollout):
    again = draw()[1]
    jax.tree.map(np.testing.assert_array_equal, rollout, again)


@pytest.fixture(scope="module")
def other():
    """Rows 2 and 0 again: other batch, order, group, prompt padding and token limit at once."""
    return draw(rows=[2, 0], width=6, group=2, max_tokens=LESS)[1]


def test_a_row_does_not_depend_on_its_neighbours_or_on_padding(rollout, other):
    for at, row in enumerate([2, 0]):
        np.testing.assert_array_equal(other.tokens[at], rollout.tokens[row, :2, :LESS])
        np.testing.assert_allclose(other.logp[at], rollout.logp[row, :2, :LESS], atol=1e-6)
        written = np.asarray(rollout.segment.mask[row, :2, :LESS])
        np.testing.assert_array_equal(other.segment.mask[at], written)
        got, want = other.segment.v[:, at], rollout.segment.v[:, row, :2, :, :LESS]
        np.testing.assert_array_equal(
            got.swapaxes(2, 3)[:, written], want.swapaxes(2, 3)[:, written]
        )


def test_a_larger_limit_changes_nothing_before_it(rollout, other):
    length = np.asarray(rollout.length)[[2, 0], :2]
    assert length.min() <= LESS < length.max()
    np.testing.assert_array_equal(other.length, np.minimum(length, LESS))
    np.testing.assert_array_equal(other.stopped, length <= LESS)


def test_lengths_and_stops(rollout):
    tokens, length = np.asarray(rollout.tokens), np.asarray(rollout.length)
    stopped = np.asarray(rollout.stopped)
    assert stopped.any() and not stopped.all()
    for b, g in np.ndindex(length.shape):
        n = length[b, g]
        body = tokens[b, g, : n - 1] if stopped[b, g] else tokens[b, g, :n]
        assert toy.STOP not in body
        assert (tokens[b, g, n - 1] == toy.STOP) == stopped[b, g]
        assert stopped[b, g] or n == T
        for padded in (rollout.tokens, rollout.logp, rollout.entropy):
            assert not np.any(padded[b, g, n:])
        np.testing.assert_array_equal(rollout.segment.mask[b, g], np.arange(T) < n)


@jax.jit
def words_of(id_):
    """Words [G, T, V] of the factual tape, one id folded in after the other."""
    fold = jax.random.fold_in
    key = fold(fold(fold(ROOT, 0), id_), noise.TAPE)
    grid = jnp.arange(G * T)
    words = lambda n: jax.random.bits(  # noqa: E731
        fold(fold(fold(key, n // T), 0), n % T), (toy.V,), jnp.uint32
    )
    return jax.vmap(words)(grid).reshape(G, T, toy.V)


@pytest.mark.parametrize("rule", [PLAIN, MASKED, GREEDY], ids=str)
def test_tokens_log_probabilities_and_entropies_are_those_of_the_masked_law(rule):
    """X_t = argmax_v(log pi(v) + U_t(v)), pi the tempered, masked law of the known policy."""
    rollout = draw(rule=rule)[1]
    for b, row in enumerate(ROWS):
        tape = gumbels_of(words_of(100 + row))
        for g in range(G):
            text = list(toy.PROMPTS[row])
            for t in range(int(rollout.length[b, g])):
                law = oracles.law(toy.next_logits(text), rule.temperature, rule.top_k, rule.top_p)
                with np.errstate(divide="ignore"):
                    token = np.argmax(np.log(law) + tape[g, t])
                assert rollout.tokens[b, g, t] == token
                assert rollout.logp[b, g, t] == pytest.approx(np.log(law[token]), abs=1e-5)
                assert rollout.entropy[b, g, t] == pytest.approx(oracles.entropy(law), abs=1e-5)
                text.append(int(token))


def test_greedy_follows_the_most_probable_token():
    rollout = draw(rule=GREEDY)[1]
    for b, row in enumerate(ROWS):
        text = list(toy.PROMPTS[row])
        for t in range(int(rollout.length[b, 0])):
            text.append(int(np.argmax(toy.next_logits(text))))
            assert (np.asarray(rollout.tokens[b, :, t]) == text[-1]).all()
    assert not np.any(rollout.logp) and not np.any(rollout.entropy)


def test_sampled_pairs_have_the_known_frequencies():
    count = 4000
    tokens = np.asarray(draw(rows=[0], group=count, max_tokens=2)[1].tokens)[0]
    expected = oracles.continuations(
        lambda text: oracles.law(toy.next_logits(text)), toy.PROMPTS[0], toy.STOP, 2
    )
    assert sum(expected.values()) == pytest.approx(1)
    chi2 = 0.0
    for pair, p in expected.items():
        pair = (*pair, 0)[:2]
        seen = np.sum((tokens == pair).all(axis=1))
        chi2 += (seen - count * p) ** 2 / (count * p)
    assert len(expected) == 31
    assert chi2 < 59.7, "the .999 quantile for 30 degrees of freedom"


def test_draws_are_different_tapes(rollout):
    assert not np.array_equal(draw(draw=1)[1].tokens, rollout.tokens)


def test_the_cache_left_behind_is_that_of_the_whole_text(rollout):
    prompts = toy.prompts(ROWS)
    prompt_segment = draw()[0]
    encode = partial(toy.POLICY.encode, toy.PARAMS)
    for b, row in enumerate(ROWS):
        n = int(rollout.length[b, 0])
        text = [*toy.PROMPTS[row], *np.asarray(rollout.tokens)[b, 0, :n].tolist()]
        size = len(toy.PROMPTS[row])
        padded = np.pad(text, (0, 4 + T - len(text)))
        mask = jnp.arange(4 + T) < len(text)
        hidden, whole = encode(padded, jnp.arange(4 + T), mask, ())
        np.testing.assert_array_equal(prompt_segment.mask[b], prompts.mask[b])
        for part in ("k", "v"):
            full = getattr(whole, part)
            prompt = getattr(prompt_segment, part)[:, b, :, :size]
            response = getattr(rollout.segment, part)[:, b, 0, :, :n]
            np.testing.assert_array_equal(prompt, full[:, :, :size])
            np.testing.assert_array_equal(response, full[:, :, size : size + n])
        np.testing.assert_array_equal(hidden[len(text) - 1], toy.next_logits(text))


@pytest.mark.parametrize("stop_at, steps", [(2, 3), (99, T)])
def test_the_loop_ends_when_every_row_has_stopped(stop_at, steps):
    segment = Segment(jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1, 2)), jnp.ones(1, bool))
    opened = jax.vmap(lambda hidden: open_row(segment, hidden, T), out_axes=ROW_AXES)
    rows = opened(jnp.zeros((2, 3)))

    def count(t, rows):
        """The second row stops one step before the first."""
        stopped = rows.rollout.stopped | (t >= jnp.array([stop_at, stop_at - 1]))
        fields = {**vars(rows.rollout), "length": rows.rollout.length + 1, "stopped": stopped}
        return Row(rows.hidden, type(rows.rollout)(**fields))

    np.testing.assert_array_equal(run(count, rows, T).rollout.length, [steps, steps])

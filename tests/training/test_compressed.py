"""L2T's penalty of each step, against a difference quotient in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.training.compressed import step_compression
from gccpo_jax.types import Prompts, Rollout, Segment, Spans
from tests.helpers import bigram
from tests.training.test_self_distilled import logp


def test_the_penalty_is_the_squared_slope_of_each_steps_log_probability():
    random, params = np.random.default_rng(0), bigram.parameters()
    start = jax.tree.map(lambda x: x - 0.1 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), params)
    prompt, tokens = random.integers(0, 8, (2, 3)), random.integers(0, 8, (2, 2, 6))
    lengths = np.array([[6, 4], [2, 5]])
    end = np.minimum([2, 4, 6], lengths[..., None])
    begin = np.concatenate([np.zeros((2, 2, 1), int), end[..., :-1]], -1)
    spans = Spans(*(jnp.asarray(x) for x in (begin, end, begin < end)))
    nothing = jnp.zeros((2, 2))
    rollout = Rollout(
        jnp.asarray(tokens), nothing, nothing, jnp.asarray(lengths), nothing > 0,
        Segment(nothing, nothing, nothing),
    )  # fmt: skip
    asked = Prompts(jnp.asarray(prompt), jnp.ones((2, 3), bool), jnp.arange(2))
    got = step_compression(bigram.POLICY, params, start, asked, rollout, spans, rule=Rule())

    change = jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), params, start)
    moved = lambda e: jax.tree.map(lambda x, d: np.float64(x) + e * d, params, change)  # noqa: E731
    for b, g, k in np.ndindex(2, 2, 3):
        response, own = tokens[b, g, : lengths[b, g]], slice(begin[b, g, k], end[b, g, k])
        up, down = (sum(logp(moved(e), prompt[b], response)[own]) for e in (1e-5, -1e-5))
        np.testing.assert_allclose(got[b, g, k], ((up - down) / 2e-5) ** 2, rtol=1e-3, atol=1e-6)
    assert float(got.max()) > 1e-3
    same = step_compression(bigram.POLICY, params, params, asked, rollout, spans, rule=Rule())
    assert not np.asarray(same).any()

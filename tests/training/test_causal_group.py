"""GCPO's contexts, its factor and its reference, against float64 by hand."""

import jax.numpy as jnp
import numpy as np

from gccpo_jax.objective.losses import policy_loss
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.training.causal_group import FLOOR, in_view, read_group, without
from gccpo_jax.types import Prompts, Rollout
from tests.helpers import bigram
from tests.helpers.oracles_advantages import causal_weight
from tests.training.test_self_distilled import logp

B, G, N, S, T, V = 2, 3, 2, 3, 4, bigram.V


def state(params, text):
    """The hidden state after a text: z, if it ends a response."""
    wide = {name: np.float64(x) for name, x in params.items()}
    return wide["after"][text[-1]] + np.cos(len(text) - 1) * wide["place"]


def test_the_factor_and_the_reference_are_those_of_the_paper():
    random, params = np.random.default_rng(0), bigram.parameters()
    prompt, asked = random.integers(0, V, (B, S)), np.arange(S) < np.array([[3], [1]])
    tokens, lengths = random.integers(0, V, (B, G, T)), random.integers(1, T + 1, (B, G))
    joint, sizes = random.integers(0, V, (B, N, T)), random.integers(1, T + 1, (B, N))
    again = random.integers(0, V, (B, G, N, N, T))
    counts = random.integers(1, T + 1, (B, G, N, N))

    whole = in_view(prompt, asked, tokens, lengths)
    seen = without(prompt, asked, tokens, lengths, joint, sizes)
    text = lambda b, j: tokens[b, j, : lengths[b, j]].tolist()  # noqa: E731
    ask = [prompt[b, asked[b]].tolist() for b in range(B)]
    for b in range(B):
        given = [*ask[b], *text(b, 0), *text(b, 1), *text(b, 2), *ask[b]]
        assert whole[0][b, whole[1][b]].tolist() == given

    rows = (jnp.asarray(x) for x in (*seen, np.arange(len(seen[0]))))
    nothing = jnp.zeros((B, G, T))
    own = Rollout(jnp.asarray(tokens), nothing, nothing, jnp.asarray(lengths), None, None)
    factor, anchor = read_group(
        *(bigram.POLICY, params),
        Prompts(jnp.asarray(prompt), jnp.asarray(asked), jnp.arange(B)),
        *(own, Prompts(*rows)),
        jnp.asarray(again.reshape(-1, N, T)),
        jnp.asarray(counts.reshape(-1, N)),
        rule=Rule(),
        alpha=2.0,
    )
    for b in range(B):
        z = [state(params, ask[b] + text(b, i)) for i in range(G)]
        for i in range(G):
            ends, laws = np.zeros((N, V)), []
            for n in range(N):
                rest = [t for j in range(G) if j != i for t in text(b, j)]
                shown = ask[b] + rest + joint[b, n, : sizes[b, n]].tolist() + ask[b]
                written = [again[b, i, n, m, : counts[b, i, n, m]].tolist() for m in range(N)]
                ends[n] = np.mean([state(params, shown + w) for w in written], axis=0)
                laws.append(np.exp(logp(params, shown, text(b, i))))
            expected = causal_weight(z[i], ends[0], ends.mean(0), np.mean(z, axis=0), 2.0)
            np.testing.assert_allclose(factor[b, i], expected, atol=1e-5)
            moved = laws[0] - np.mean(laws, axis=0) + np.exp(logp(params, ask[b], text(b, i)))
            expected = np.log(np.maximum(moved, FLOOR))
            np.testing.assert_allclose(
                anchor[b, i, : lengths[b, i]], expected, rtol=1e-3, atol=1e-4
            )
            assert not np.asarray(anchor[b, i, lengths[b, i] :]).any()


def test_the_second_reference_is_a_penalty_of_its_own():
    random = np.random.default_rng(1)
    logp, anchor = -random.random((2, G, T)) * 3
    mask = np.arange(T) < np.array([[4], [2], [1]])
    given = [jnp.asarray(x, jnp.float32) for x in (logp, logp, logp * 0, logp * 0)]
    found = policy_loss(*given, jnp.asarray(mask), anchor_logp=jnp.asarray(anchor), anchor=0.06)
    d = (anchor - logp)[mask]
    np.testing.assert_allclose(found.total, 0.06 * (np.exp(d) - d - 1).sum(), rtol=1e-5)

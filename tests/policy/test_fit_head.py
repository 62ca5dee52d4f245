"""A head fitted to soft labels: it finds a rule, and the penalty unlearns a spurious one."""

import jax.numpy as jnp
import numpy as np

from gccpo_jax.policy.fit_head import BANDWIDTH, bin_mmd, fit_head, scores


def mmd(x, y):
    """Squared MMD in float64, by pairs."""
    k = lambda a, b: np.mean(  # noqa: E731
        [np.exp(-((i - j) ** 2) / (2 * BANDWIDTH**2)) for i in a for j in b]
    )
    return k(x, x) + k(y, y) - 2 * k(x, y)


def test_the_penalty_is_the_mmd_of_each_bin_against_the_others():
    random = np.random.default_rng(0)
    score, bins = random.random(12), random.integers(0, 2, 12)
    bins[:3] = 3  # and none in bin 2
    each = [mmd(score[bins == b], score[bins != b]) for b in (0, 1, 3)]
    got = bin_mmd(jnp.asarray(score, jnp.float32), jnp.asarray(bins), 4)
    np.testing.assert_allclose(got, sum(each) / 4, atol=1e-6)
    assert bin_mmd(jnp.array([0.0, 0, 1, 1]), jnp.array([0, 1, 0, 1]), 2) < 1e-6


def test_a_head_finds_the_rule_and_with_the_penalty_not_the_spurious_one():
    random = np.random.default_rng(1)
    hidden = random.normal(size=(800, 4)).astype(np.float32)
    long = (hidden[:, 1] > 0).astype(np.int32)  # what steps should not be judged by
    target = 1 / (1 + np.exp(-2 * hidden[:, 0] - 1.5 * long + 0.75))
    apart = {}
    for weight in (0.0, 4.0):
        head = fit_head(hidden, target, updates=300, lr=1e-2, bins=long, invariance=weight)
        found = scores(head, jnp.asarray(hidden))
        p = np.asarray(jnp.exp(found[:, 1] - jnp.logaddexp(found[:, 0], found[:, 1])))
        apart[weight] = p[long == 1].mean() - p[long == 0].mean()
        assert np.corrcoef(p, target)[0, 1] > (0.95 if weight == 0 else 0.8)
    assert apart[0.0] > 0.15 and abs(apart[4.0]) < apart[0.0] / 2

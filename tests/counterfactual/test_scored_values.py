"""Values that are read at once: every one of them, none from an unreadable law."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.advantage.kinds import credit_batch
from gccpo_jax.config import CreditConfig
from gccpo_jax.counterfactual.read import scored_values
from gccpo_jax.reward.arms import Family, no_arms
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.types import Rollout, Spans

NAN = np.nan


def read(before, after, count, max_other=0.2, gold=True):
    """Values of one trajectory of `count` steps whose gold answer has these probabilities.

    NaN: nearly all mass is outside the candidates.
    """
    law = lambda p: [0.05, 0.0, 0.95] if np.isnan(p) else [p, 1 - p, 0.0]  # noqa: E731
    found = types.SimpleNamespace(
        before=np.array([[law(before)]]),
        factual=np.array([[[law(p) for p in after]]]),
        has_gold=np.array([gold]),
    )
    mask = (np.arange(len(after)) < count)[None, None]
    return [x[0, 0] for x in scored_values(found, types.SimpleNamespace(mask=mask), max_other)]


@pytest.mark.parametrize(
    ("before", "after", "values", "start", "final"),
    [
        (0.1, [0.3, 0.25, 0.9, 0.7], [0.3, 0.25, NAN, NAN], 0.1, 0.9),
        (0.1, [NAN, 0.25, 0.9, 0.7], [0.1, 0.25, NAN, NAN], 0.1, 0.9),
        (NAN, [NAN, 0.25, NAN, 0.7], [0.25, 0.25, NAN, NAN], 0.25, 0.25),
        (NAN, [NAN, NAN, NAN, 0.7], [NAN] * 4, NAN, NAN),
    ],
)
def test_values_are_immediate_readouts_of_readable_laws(before, after, values, start, final):
    found = read(before, after, count=3)
    for got, want in zip(found, (values, start, final), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_without_a_gold_answer_or_a_trusted_reader_nothing_is_known():
    for changed in ({"gold": False}, {"max_other": -1.0}):
        assert np.isnan(
            np.concatenate([np.ravel(x) for x in read(0.1, [0.3, 0.9], 2, **changed)])
        ).all()


def effects(kind, before, after, outcome):
    """D [G, E] of a group whose trajectories have the same readings and these outcomes."""
    size, steps = len(outcome), len(after)
    value, start, final = (
        jnp.asarray(np.broadcast_to(x, (1, size, *np.shape(x)))) for x in read(before, after, steps)
    )
    shape = (1, size, steps)
    ends = jnp.broadcast_to(jnp.arange(1, steps + 1), shape)
    spans = Spans(ends - 1, ends, jnp.ones(shape, bool))
    factual = jnp.zeros((*shape, 3)).at[..., -1].set(1.0)
    none = [no_arms(family, shape, 3) for family in (Family.NUISANCE, Family.CONTENT)]
    given = jnp.array([outcome]), jnp.ones((1, size), bool), value, factual, *none
    nothing = jnp.zeros(shape), jnp.full((1, size), jnp.nan)
    reading = GroupReading(*given, *nothing, start=start, final=final)
    zeros = jnp.zeros(shape)
    length = jnp.full((1, size), steps)
    rollout = Rollout(zeros.astype(int), zeros - 1, zeros, length, length > 0, None)
    rule = CreditConfig(kind=kind, gate=False)
    with jax.debug_nans(True):
        found = credit_batch(reading, spans, rollout, jnp.bool_(True), rule=rule, max_other=0.2)
    return np.asarray(found.effect[0])


@pytest.mark.parametrize("kind", ["additive", "l2t"])
def test_a_constant_reader_gives_no_progress(kind):
    """It gave (-.65, 0, +.9) of a mean outcome of .75: two kinds of numbers were compared."""
    found = effects(kind, 0.1, [0.1, 0.1, 0.1], [1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(found, np.zeros((4, 3)), atol=1e-6)


def test_progress_is_to_the_reading_after_the_last_step_and_else_to_the_outcome():
    after, outcome = [0.3, 0.25, 0.9], [1.0, 0.0]
    progress = [0.2, -0.05, 0.65]
    np.testing.assert_allclose(effects("additive", 0.1, after, outcome), [progress] * 2, atol=1e-6)
    gae = [[0.2, -0.05, 0.75], [0.2, -0.05, -0.25]]
    np.testing.assert_allclose(effects("gated_gae", 0.1, after, outcome), gae, atol=1e-6)


def test_progress_without_a_readable_law_is_none():
    np.testing.assert_allclose(
        effects("additive", NAN, [NAN, NAN], [1.0, 0.0]), np.zeros((2, 2)), atol=1e-6
    )

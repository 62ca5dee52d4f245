"""All scores of a trajectory through the library entry, and the families that it keeps apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.errors import UserError
from gccpo_jax.reward import Laws, score
from gccpo_jax.reward.arms import Arms, Family, no_arms, pool
from tests.helpers import oracles_credit as oracle

E, C = 4, 3
NAMES = ["value", "effect", "robustness", "sensitivity", "selectivity", "counterfactual"]
scored = jax.jit(score, static_argnames=("max_other",))


def arms(family, laws, usable):
    return Arms(jnp.asarray(laws, jnp.float32), jnp.asarray(usable, bool), family)


def laws_of(seed, count=E, gold=0, p=(2, 3, 2)):
    """A random trajectory with `count` steps; NaN wherever nothing may be read."""
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.dirichlet([1.0] * C + [0.3], shape)  # noqa: E731
    mask = np.arange(E) < count

    def family(which, size):
        usable = random.random((E, size)) < 0.7
        laws = np.where((usable & mask[:, None])[..., None], draw(E, size), np.nan)
        return arms(which, laws, usable)

    return Laws(
        before=jnp.asarray(draw(), jnp.float32),
        factual=jnp.asarray(np.where(mask[:, None], draw(E), np.nan), jnp.float32),
        mask=jnp.asarray(mask),
        gold=jnp.int32(gold),
        nuisance=family(Family.NUISANCE, p[0]),
        content=family(Family.CONTENT, p[1]),
        baseline=family(Family.BASELINE, p[2]),
    )


def expected(laws, max_other=0.2):
    """The oracle on the steps that exist."""
    count = int(np.asarray(laws.mask).sum())

    def listed(arms):
        return [
            [law if use else None for law, use in zip(*row, strict=True)]
            for row in zip(
                np.asarray(arms.laws, np.float64)[:count],
                np.asarray(arms.usable)[:count],
                strict=True,
            )
        ]

    wide = lambda x: np.asarray(x, np.float64)  # noqa: E731
    return oracle.trajectory_scores(
        wide(laws.before), wide(laws.factual)[:count], int(laws.gold),
        listed(laws.nuisance), listed(laws.content), listed(laws.baseline), max_other,
    )  # fmt: skip


@given(st.integers(0, 2**20), st.integers(0, E), st.integers(-1, C))
def test_every_score_equals_the_oracle_and_says_what_was_not_measured(seed, count, gold):
    laws = laws_of(seed, count, gold)
    found, rows = scored(laws), expected(laws)
    for name in NAMES:
        value, defined = (np.asarray(x) for x in vars(getattr(found, name)).values())
        for k in range(E):
            truth = rows[k][name] if k < count else None
            assert defined[k] == (truth is not None), (name, k)
            assert value[k] == pytest.approx(truth or 0.0, abs=2e-6), (name, k)


def test_numbers_of_the_docstring_without_jit():
    p0, p1 = [0.7, 0.2, 0.1], [0.5, 0.3, 0.2]
    one = lambda family: arms(family, [[p1]], [[True]])  # noqa: E731
    laws = Laws(
        jnp.array([0.1, 0.9, 0.0]), jnp.array([p0]), jnp.ones(1, bool), jnp.int32(0),
        one(Family.NUISANCE), one(Family.CONTENT), one(Family.BASELINE),
    )  # fmt: skip
    found = score(laws)
    numbers = [0.7, 0.6, 0.9684033, 0.0315967, 0.0305983, 0.2]
    for name, number in zip(NAMES, numbers, strict=True):
        assert getattr(found, name).value == pytest.approx(number, abs=1e-6), name
        assert getattr(found, name).defined


def test_what_was_left_out_is_counted():
    laws = laws_of(0, 3)
    factual = laws.factual.at[1].set(jnp.array([0.2, 0.2, 0.2, 0.4]))
    found = scored(dataclasses.replace(laws, factual=factual)).left_out
    readable = np.asarray(factual[:3, -1] <= 0.2)
    assert found.unreadable == (~readable).sum() > 0
    for name in ("nuisance", "content", "baseline"):
        usable = np.asarray(getattr(laws, name).usable[:3]) & readable[:, None]
        assert getattr(found, name) == usable.size - usable.sum()


def test_an_arm_that_leads_outside_the_candidates_has_moved_the_answer():
    law, away = jnp.array([0.9, 0.05, 0.05, 0.0]), jnp.array([0.0, 0.0, 0.0, 1.0])
    laws = dataclasses.replace(
        laws_of(1),
        factual=jnp.broadcast_to(law, (E, C + 1)),
        content=arms(Family.CONTENT, jnp.broadcast_to(away, (E, 1, C + 1)), np.ones((E, 1))),
    )
    np.testing.assert_allclose(scored(laws).sensitivity.value, np.ones(E), atol=1e-6)


def test_a_placebo_is_exactly_robust_exactly_without_effect_and_selects_nothing():
    """T1: the factual law in every arm, so equal bit by bit."""
    for seed in range(5):
        laws = laws_of(seed)
        factual = jnp.asarray(
            np.random.default_rng(seed).dirichlet([5] * C + [0.1], E), jnp.float32
        )
        same = lambda family, f=factual: arms(  # noqa: E731
            family, jnp.repeat(f[:, None], 3, axis=1), np.ones((E, 3))
        )
        found = scored(
            dataclasses.replace(
                laws, factual=factual, nuisance=same(Family.NUISANCE),
                content=same(Family.CONTENT), baseline=same(Family.BASELINE),
            ),
            max_other=1.0,
        )  # fmt: skip
        np.testing.assert_array_equal(found.robustness.value, 1)
        for name in ("sensitivity", "selectivity", "counterfactual"):
            np.testing.assert_array_equal(getattr(found, name).value, 0)
            assert np.asarray(getattr(found, name).defined).all()


@given(st.integers(0, 2**20), st.integers(0, E - 1))
def test_effects_telescope_and_splitting_a_step_keeps_their_sum(seed, at):
    laws = laws_of(seed)
    effect = scored(laws, max_other=1.0).effect
    assert np.asarray(effect.defined).all()
    assert effect.value.sum() == pytest.approx(
        float(laws.factual[-1, 0] - laws.before[0]), abs=1e-6
    )
    between = np.random.default_rng(seed).dirichlet([1] * (C + 1))
    insert = lambda x: jnp.asarray(np.insert(x, at, x[at], axis=0))  # noqa: E731
    halves = jax.tree.map(lambda x: insert(x) if x.ndim and x.shape[0] == E else x, laws)
    halves = dataclasses.replace(
        halves, before=laws.before, factual=halves.factual.at[at].set(jnp.asarray(between))
    )
    parts = scored(halves, max_other=1.0).effect.value
    assert parts[at : at + 2].sum() == pytest.approx(float(effect.value[at]), abs=1e-6)
    np.testing.assert_array_equal(np.delete(parts, [at, at + 1]), np.delete(effect.value, at))


def test_order_of_arms_and_candidates_does_not_matter():
    laws = laws_of(3, 3, gold=1)
    turn = np.array([2, 0, 1, 3])  # candidates; `other` stays last
    turned = jax.tree.map(lambda x: x[..., turn] if x.dtype == jnp.float32 else x, laws)
    backwards = arms(Family.CONTENT, turned.content.laws[:, ::-1], turned.content.usable[:, ::-1])
    again = scored(dataclasses.replace(turned, content=backwards, gold=jnp.int32(2)))
    for name in NAMES:
        got, found = getattr(again, name), getattr(scored(laws), name)
        np.testing.assert_allclose(got.value, found.value, atol=1e-6)
        np.testing.assert_array_equal(got.defined, found.defined)


@jax.jit
@jax.value_and_grad
def total(floats, laws):
    before, factual, *moved = floats
    families = dict(zip(["nuisance", "content", "baseline"], moved, strict=True))
    replaced = {
        name: dataclasses.replace(getattr(laws, name), laws=x) for name, x in families.items()
    }
    found = score(dataclasses.replace(laws, before=before, factual=factual, **replaced))
    return sum(getattr(found, name).value.sum() for name in NAMES)


def certain(shape, entry):
    return jnp.asarray(np.broadcast_to(np.eye(shape[-1])[entry], shape), jnp.float32)


def degenerate(name):
    """Trajectories that a careless formula turns into NaN."""
    if name == "no steps":
        return laws_of(0, 0)
    if name == "one step":
        return laws_of(0, 1)
    if name == "no gold":
        return laws_of(0, gold=-1)
    if name == "no arms asked for":
        return laws_of(0, p=(0, 0, 0))
    if name == "room for no step":
        empty = lambda family: no_arms(family, (0,), C + 1)  # noqa: E731
        return Laws(
            jnp.ones(C + 1) / (C + 1), jnp.zeros((0, C + 1)), jnp.zeros(0, bool), jnp.int32(0),
            empty(Family.NUISANCE), empty(Family.CONTENT), empty(Family.BASELINE),
        )  # fmt: skip
    size, entry = (2, 0) if name == "one candidate" else (C + 1, 0 if name == "collapsed" else C)
    one = lambda family: arms(  # noqa: E731
        family, certain((E, 2, size), entry), np.ones((E, 2))
    )
    return Laws(
        certain((size,), entry), certain((E, size), entry), jnp.ones(E, bool), jnp.int32(0),
        one(Family.NUISANCE), one(Family.CONTENT), one(Family.BASELINE),
    )  # fmt: skip


CASES = ["no steps", "one step", "no gold", "no arms asked for", "room for no step",
         "one candidate", "collapsed", "unreadable"]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_finite_at_the_edges(name):
    laws = degenerate(name)
    families = [laws.nuisance.laws, laws.content.laws, laws.baseline.laws]
    value, gradient = total([laws.before, laws.factual, *families], laws)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradient)
    found = scored(laws)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    if name == "no gold":
        for gone in ("value", "effect", "counterfactual"):
            assert not np.asarray(getattr(found, gone).defined).any()
        assert np.asarray(found.robustness.defined).any()
    if name == "no arms asked for":
        for gone in NAMES[2:]:
            assert not np.asarray(getattr(found, gone).defined).any()
        assert np.asarray(found.value.defined).any()
    if name in ("no steps", "unreadable"):
        assert not any(np.asarray(getattr(found, each).defined).any() for each in NAMES)


def test_vmap_equals_a_loop():
    many = [laws_of(seed) for seed in range(3)]
    mapped = jax.jit(jax.vmap(score))(jax.tree.map(lambda *x: jnp.stack(x), *many))
    assert isinstance(many[0].nuisance.family, Family)
    for n, laws in enumerate(many):
        for got, one in zip(jax.tree.leaves(mapped), jax.tree.leaves(scored(laws)), strict=True):
            np.testing.assert_allclose(got[n], one, atol=1e-6)


def test_arms_of_one_family_are_pooled_in_order():
    first, second = laws_of(0).content, laws_of(1).content
    both = pool(first, second, no_arms(Family.CONTENT, (E,), C + 1))
    assert both.family is Family.CONTENT
    np.testing.assert_array_equal(both.laws, np.concatenate([first.laws, second.laws], axis=1))
    np.testing.assert_array_equal(both.usable, np.concatenate([first.usable, second.usable], 1))


@pytest.mark.parametrize("other", [Family.NULL, Family.BASELINE, Family.CONTENT])
def test_families_are_never_pooled(other):
    laws = laws_of(0)
    stranger = dataclasses.replace(laws.nuisance, family=other)
    with pytest.raises(UserError, match=f"Family.NUISANCE and {other}"):
        pool(laws.nuisance, stranger)
    with pytest.raises(UserError, match=f"Laws.nuisance: got {other} arms"):
        scored(dataclasses.replace(laws, nuisance=stranger))
    with pytest.raises(UserError, match="at least one"):
        pool()

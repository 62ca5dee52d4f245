"""Every kind of credit against its oracle, and the laws they all obey."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.advantage.kinds import credit_batch, outcome_only
from gccpo_jax.config import CreditConfig
from tests.helpers import oracles_cited as cited
from tests.helpers import oracles_controls as controls
from tests.helpers import oracles_credit as oracle
from tests.helpers.groups import (
    E,
    G,
    T,
    arms_like,
    change,
    credit_one,
    for_oracle,
    group,
    no_longer_usable,
    padded_tokens,
    reorder,
)

YES = jnp.bool_(True)
CASES = {
    "gated_gae": (CreditConfig(), oracle.gated_gae),
    "gated_gae, other options": (
        CreditConfig(lam=0.7, gate_answer=False, token_weights="surprise"),
        partial(
            oracle.gated_gae, lam=0.7, gate_answer=False, token_weights="surprise", max_other=0.1
        ),
    ),
    "additive": (CreditConfig(kind="additive"), oracle.additive),
    "additive, other options": (
        CreditConfig(kind="additive", baseline="zscore", additive_weight=2.0, gate=False,
                   token_weights="surprise", ddof=0),
        partial(oracle.additive, baseline="zscore", weight=2.0, gate=False,
                token_weights="surprise", ddof=0),
    ),
    "selective": (CreditConfig(kind="selective"), oracle.selective),
    "selective, other options": (
        CreditConfig(kind="selective", selective_floor=0.0, token_weights="surprise",
                   baseline="zscore", epsilon=0.1),
        partial(oracle.selective, floor=0.0, token_weights="surprise", baseline="zscore",
                epsilon=0.1),
    ),
    "four_corner": (CreditConfig(kind="four_corner"), oracle.four_corner),
    "four_corner, other options": (
        CreditConfig(kind="four_corner", corner_a=0.6, corner_b=0.1),
        partial(oracle.four_corner, a=0.6, b=0.1),
    ),
    "paper": (CreditConfig(kind="paper"), oracle.paper),
    "paper, other options": (
        CreditConfig(kind="paper", paper_alpha=0.3, paper_weight=2.0, paper_truncation=0.2,
                   paper_floor=0.1, paper_clip=1.5, ddof=0, epsilon=0.0),
        partial(oracle.paper, alpha=0.3, weight=2.0, truncation=0.2, floor=0.1, clip=1.5, ddof=0,
                epsilon=0.0),
    ),
    "l2t": (CreditConfig(kind="l2t", paper_alpha=0.8), controls.l2t),
    "observational": (
        CreditConfig(step_term="observational"), controls.of_term(controls.observational),
    ),
    "observational, other options": (
        CreditConfig(step_term="observational", gate_answer=False),
        controls.of_term(controls.observational, gate_answer=False, max_other=0.1),
    ),
    "non_causal": (CreditConfig(step_term="non_causal"), controls.of_term(controls.non_causal)),
    "robustness": (CreditConfig(step_term="robustness"), controls.of_term(controls.robustness)),
    "effect_size": (CreditConfig(step_term="effect_size"), controls.of_term(controls.effect_size)),
    "selectivity": (CreditConfig(step_term="selectivity"), controls.of_term(controls.selectivity)),
    "prover": (CreditConfig(step_term="prover"), controls.of_term(cited.prover)),
    "root": (CreditConfig(step_term="root"), controls.of_term(cited.root)),
    "terminate": (CreditConfig(kind="terminate"), cited.terminate),
    "gate by Eq": (
        CreditConfig(gate_by="equivariance"), controls.of_term(controls.by_equivariance),
    ),
}  # fmt: skip


MAX_OTHER = {"gated_gae, other options": 0.1, "observational, other options": 0.1}


def credits(names, reading, spans, rollout, use_gate):
    return {
        name: credit_one(
            reading,
            spans,
            rollout,
            use_gate,
            rule=CASES[name][0],
            max_other=MAX_OTHER.get(name, 0.2),
        )
        for name in names
    }


KINDS = ["gated_gae", "additive", "selective", "four_corner", "paper", "l2t"]
every = jax.jit(partial(credits, list(CASES)))  # compiled once for the whole file
credit_of = jax.jit(credit_one, static_argnames=("rule",))


def each(found):
    """(name, token advantages) of every case."""
    return [(name, np.asarray(credit.advantage)) for name, credit in found.items()]


@pytest.mark.parametrize("unscorable", [(), (2,), (0, 1, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_tokens_equal_the_oracle(seed, unscorable):
    data = group(seed, unscorable=unscorable)
    rows = for_oracle(*data)
    for name, got in each(every(*data, YES)):
        expected = padded_tokens(CASES[name][1](rows))
        np.testing.assert_allclose(got, expected, atol=3e-5, err_msg=name)
        assert not got[list(unscorable)].any(), name


def test_the_random_groups_have_credit_to_give_and_laws_that_cannot_be_read():
    """Otherwise the tests of this file would compare zeros."""
    unreadable = 0
    for seed in range(4):
        data = group(seed)
        unreadable += int((np.asarray(data[0].factual)[..., -1] > 0.2).sum())
        for name, got in each(every(*data, YES)):
            assert np.abs(got).max() > 0.05 or not np.ptp(data[0].outcome), name
    assert unreadable > 2


@pytest.mark.parametrize("seed", range(2))
def test_a_reader_under_its_gate_is_not_used(seed):
    data = group(seed)
    unreadable = jnp.zeros_like(data[0].factual).at[..., -1].set(1.0)
    nothing = jnp.full_like(data[0].equivariance, jnp.nan)
    blind = for_oracle(change(data[0], factual=unreadable, equivariance=nothing), *data[1:])
    for name, got in each(every(*data, ~YES)):
        expected = padded_tokens(CASES[name][1](blind))
        np.testing.assert_allclose(got, expected, atol=3e-5, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_order_in_the_group_does_not_matter(seed):
    data, order = group(seed, unscorable=(1,)), [2, 0, 3, 1]
    found = dict(each(every(*data, YES)))
    for name, got in each(every(*reorder(data, order), YES)):
        np.testing.assert_allclose(got, found[name][order], atol=2e-5, err_msg=name)


def test_padding_changes_nothing_whatever_it_holds():
    reading, spans, rollout = group(3, unscorable=(1,))

    def pad(x, value, axis=1):
        width = [(0, 2 if n == axis else 0) for n in range(x.ndim)]
        return np.pad(x, width, constant_values=value)

    def pad_steps(x):
        return pad(x, True if x.dtype == bool else np.nan) if x.ndim > 1 else x

    nonsense = vars(jax.tree.map(pad_steps, reading))
    longer = change(rollout, tokens=pad(rollout.tokens, 1), logp=pad(rollout.logp, -3.0))
    padded = type(spans)(pad(spans.start, 1), pad(spans.end, 4), pad(spans.mask, False))
    found = dict(each(every(reading, spans, rollout, YES)))
    for name, got in each(every(change(reading, **nonsense), padded, longer, YES)):
        np.testing.assert_allclose(got[:, :T], found[name], atol=1e-6, err_msg=name)
        assert not got[:, T:].any(), name


def test_an_unscorable_trajectory_changes_nothing_for_the_others():
    reading, spans, rollout = group(0, unscorable=(1,))
    absurd = jax.tree.map(lambda x: x if x.dtype == bool else x.at[1].set(jnp.nan), reading)
    found = dict(each(every(reading, spans, rollout, YES)))
    for name, got in each(every(absurd, spans, rollout, YES)):
        np.testing.assert_array_equal(got, found[name], err_msg=name)


def test_a_batch_is_credited_question_by_question():
    batch = [group(seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batch)
    for name in KINDS:
        together = credit_batch(*stacked, YES, rule=CASES[name][0], max_other=0.2)
        for n, data in enumerate(batch):
            np.testing.assert_allclose(
                together.advantage[n], every(*data, YES)[name].advantage, atol=1e-6, err_msg=name
            )


def outcome_tokens(data, **options):
    reading, _, rollout = data
    rule = CreditConfig(kind="outcome", **options)
    return outcome_only(reading.outcome, reading.scorable, rollout, rule=rule)


@pytest.mark.parametrize("token_weights", ["uniform", "surprise"])
def test_additive_without_weight_is_outcome_only(token_weights):
    rule = CreditConfig(kind="additive", additive_weight=0.0, token_weights=token_weights)
    for seed in range(3):
        data = group(seed, unscorable=(seed,))
        got = credit_of(*data, YES, rule=rule).advantage
        np.testing.assert_array_equal(got, outcome_tokens(data))


def test_additive_adds_the_clipped_step_stream():
    reading, spans, rollout = group(1)
    credit = every(reading, spans, rollout, YES)["additive, other options"]
    assert (np.abs(credit.step_score) <= 1).all()
    rule = CreditConfig(kind="additive", gate=False, additive_weight=1.0)
    far = change(reading, value=-5.0 * jnp.ones((G, E)))  # a reader out of its range
    assert np.abs(credit_of(far, spans, rollout, YES, rule=rule).step_score).max() == 1


def test_selective_with_equal_selectivity_is_outcome_only():
    for seed in range(3):
        data = group(seed)
        law, other = jnp.array([0.6, 0.3, 0.1, 0.0]), jnp.array([0.2, 0.3, 0.4, 0.1])
        same = change(
            data[0],
            factual=jnp.broadcast_to(law, data[0].factual.shape),
            nuisance=arms_like(
                data[0].nuisance,
                laws=jnp.broadcast_to(0.5 * (law + other), data[0].nuisance.laws.shape),
            ),
            content=arms_like(
                data[0].content, laws=jnp.broadcast_to(other, data[0].content.laws.shape)
            ),
        )
        credit = every(same, *data[1:], YES)["selective"]
        assert (np.asarray(credit.selectivity)[np.asarray(credit.selective_defined)] > 0.01).all()
        np.testing.assert_allclose(credit.advantage, outcome_tokens(data), atol=1e-6)


def test_selective_moves_the_outcomes_advantage_and_keeps_its_mean():
    for seed in range(4):
        data = group(seed)
        credit = every(*data, YES)["selective"]
        got, expected = np.asarray(credit.advantage), np.asarray(outcome_tokens(data))
        np.testing.assert_allclose(got.sum(1), expected.sum(1), atol=1e-5)
        assert (got * expected >= 0).all()


def test_four_corner_with_equal_soundness_is_outcome_only_scaled():
    reading, spans, rollout = group(2)
    blind = change(reading, content=no_longer_usable(reading.content))  # no Q: q = 1
    got = every(blind, spans, rollout, YES)["four_corner"].advantage
    np.testing.assert_allclose(got, 0.5 * outcome_tokens((reading, spans, rollout)), atol=1e-6)

"""Public functions of reward, advantage and objective refuse an axis too many; none guesses."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import advantage, objective, reward
from gccpo_jax.advantage import baselines, controls, paper, shaping
from gccpo_jax.advantage import process_supervision as process
from gccpo_jax.advantage.outcome import shaped_outcome
from gccpo_jax.config import CreditConfig, RewardConfig
from gccpo_jax.objective import ratios, reductions
from gccpo_jax.objective.losses import gvpo_loss, negative_log_likelihood, policy_loss
from gccpo_jax.reward import Arms, Family, Laws
from gccpo_jax.shapes import check
from tests.helpers.groups import group

A, B, E, G, N, P, T, D = 3, 2, 4, 5, 6, 2, 7, 8
F = jnp.float32


def f(*shape):
    return jnp.full(shape, 0.5, F)


def yes(*shape):
    return jnp.ones(shape, bool)


def zeros(*shape):
    return jnp.zeros(shape, jnp.int32)


def arms(family):
    return Arms(f(E, P, A), yes(E, P), family)


LAWS = Laws(
    f(A),
    f(E, A),
    yes(E),
    zeros(),
    arms(Family.NUISANCE),
    arms(Family.CONTENT),
    arms(Family.BASELINE),
)
SCALE = {"ddof": 1, "epsilon": 1e-4}
ENTROPY = {"base": 1.0, "bonus": 0.1, "floor": 1e-6} | SCALE
READING, SPANS, ROLLOUT = group()
ONE = jax.tree.map(lambda x: x[0], SPANS)
STEPS = SPANS.mask.shape[1]
READ = {"gate": True, "gate_answer": True, "gate_by": "robustness", "max_other": 0.2}
BATCH = jax.tree.map(lambda x: x[None], (READING, SPANS, ROLLOUT))
SCORES = jax.tree.map(lambda x: x[0], reward.measure(*BATCH[:2], jnp.bool_(True), **READ))
GATE = jnp.bool_(True)

# Function, its arguments, its options. Each argument in turn gets an axis in front.
CASES = {
    "reward.kl_divergence": (reward.kl_divergence, [f(A), f(A)], {}),
    "reward.jsd": (reward.jsd, [f(A), f(A)], {}),
    "reward.total_variation": (reward.total_variation, [f(A), f(A)], {}),
    "reward.flip_bounds": (reward.flip_bounds, [f(A), f(A)], {}),
    "reward.robustness": (reward.robustness, [f(E, A), f(E, P, A), yes(E, P)], {}),
    "reward.sensitivity": (reward.sensitivity, [f(E, P, A), f(E, P, A), yes(E, P)], {}),
    "reward.selectivity": (reward.selectivity, [(f(E), yes(E)), (f(E), yes(E))], {}),
    "reward.agreement": (reward.agreement, [zeros(N), zeros(P, N), yes(P)], {}),
    "reward.flip_rate": (reward.flip_rate, [zeros(N), zeros(N)], {}),
    "reward.law_variation": (reward.law_variation, [f(G, E, A), yes(G, E)], {}),
    "reward.fill_undefined": (reward.fill_undefined, [f(G, E), yes(G, E)], {}),
    "reward.effects": (reward.effects, [f(E), f(), yes(E)], {}),
    "reward.counterfactual_effect": (
        reward.counterfactual_effect, [f(E), f(E, P), yes(E, P)], {},
    ),
    "reward.gated_effects": (
        reward.gated_effects, [f(E), f(E), yes(E)], {"gate": True, "gate_answer": True},
    ),
    "reward.score": (reward.score, [LAWS], {}),
    "reward.score_batch": (
        reward.score_batch, [jax.tree.map(lambda x: jnp.stack([jnp.stack([x] * G)] * B), LAWS)], {},
    ),
    "reward.measure": (reward.measure, [BATCH[0], BATCH[1], GATE], READ),
    "reward.pool": (reward.pool, [arms(Family.CONTENT), arms(Family.CONTENT)], {}),
    "advantage.leave_one_out": (advantage.leave_one_out, [f(G), yes(G)], {}),
    "advantage.group_zscore": (advantage.group_zscore, [f(G), yes(G)], SCALE),
    "advantage.mean_only": (advantage.mean_only, [f(G), yes(G)], {}),
    "advantage.has_contrast": (advantage.has_contrast, [f(G), yes(G)], {}),
    "advantage.pass_at_k": (advantage.pass_at_k, [yes(G), yes(G)], {"k": 2, "epsilon": 0.1}),
    "baselines.outcome_advantage": (
        baselines.outcome_advantage, [f(G), yes(G)], {"rule": CreditConfig()},
    ),
    "advantage.causal_weight": (advantage.causal_weight, [f(D)] * 4, {"alpha": 2.0}),
    "advantage.length_penalised": (
        advantage.length_penalised, [f(G), zeros(G), yes(G), yes(G)], {"alpha": 0.1},
    ),
    "advantage.gtpo": (advantage.gtpo, [yes(G), f(G, T), yes(G, T)], ENTROPY),
    "advantage.grpo_s": (advantage.grpo_s, [yes(G), f(G, T), yes(G, T), yes(G)], ENTROPY),
    "advantage.discounted_effects": (
        advantage.discounted_effects, [f(E), zeros(E)], {"lam": 0.9, "tokens_per_unit": 10.0},
    ),
    "advantage.recentre": (advantage.recentre, [f(G, E), yes(G, E)], {}),
    "advantage.surprise_weights": (
        advantage.surprise_weights, [f(T), zeros(T), yes(T)], {"max_steps": E},
    ),
    "advantage.to_tokens": (advantage.to_tokens, [f(STEPS), ONE], {"size": T}),
    "advantage.to_steps": (advantage.to_steps, [f(T), ONE], {}),
    "advantage.mass_preserving": (
        advantage.mass_preserving, [f(E), zeros(E)], {"floor": 0.1},
    ),
    "advantage.token_mean": (advantage.token_mean, [f(E), zeros(E), yes(E)], {}),
    "advantage.four_corner": (advantage.four_corner, [f(G), f(G)], {"a": 0.25, "b": 0.5}),
    "advantage.credit_batch": (
        advantage.credit_batch, [*BATCH, GATE], {"rule": CreditConfig(), "max_other": 0.2},
    ),
    "advantage.credit_group": (
        advantage.credit_group, [READING, SCORES, SPANS, ROLLOUT], {"rule": CreditConfig()},
    ),
    "advantage.outcome_advantages": (
        advantage.outcome_advantages, [READING.outcome, READING.scorable, ROLLOUT],
        {"rule": CreditConfig(kind="outcome")},
    ),
    "outcome.shaped_outcome": (
        shaped_outcome, [READING.outcome, READING.scorable, ROLLOUT],
        {"limit": 9, "rule": RewardConfig(overlong=2, length_penalty=0.1)},
    ),
    "controls.with_outcome": (
        controls.with_outcome, [f(G, E), f(G), yes(G), yes(G, E)], {},
    ),
    "controls.sibling_robustness": (controls.sibling_robustness, [f(G, E, A), yes(G, E)], {}),
    "controls.sibling_value": (controls.sibling_value, [f(G, E, A), f(G), yes(G, E)], {}),
    "controls.sibling_variance": (controls.sibling_variance, [f(G, E, A), yes(G, E)], {}),
    "controls.inverted": (controls.inverted, [f(E), zeros(E), yes(E)], {}),
    "shaping.gtpo_rewards": (
        shaping.gtpo_rewards, [yes(G), f(G, T), yes(G, T)],
        {"base": 1.0, "bonus": 0.1, "floor": 1e-6},
    ),
    "paper.robustness": (paper.robustness, [f(E, A), f(E, P, A), yes(E, P)], {}),
    "paper.effectiveness": (paper.effectiveness, [f(G, E), yes(G, E)], {}),
    "paper.token_rewards": (
        paper.token_rewards, [f(E), f(), f(T), zeros(T), yes(T), yes(E)], {"alpha": 0.8},
    ),
    "paper.truncated_mean": (paper.truncated_mean, [f(T), yes(T)], {"truncation": 0.1}),
    "paper.back_map": (paper.back_map, [f(), f(T), f(), yes(T)], {"floor": 0.1, "clip": 5.0}),
    "process.process_supervision": (process.process_supervision, [f(G, E), yes(G, E)], {}),
    "process.over_terminating": (
        process.over_terminating, [f(G), f(N), yes(G), yes(N)], {},
    ),
    "process.consistency": (process.consistency, [f(E), yes(E), yes(), f()], {}),
    "process.curate": (process.curate, [f(G), yes(G), yes(G)], {"remove": 1}),
    "objective.policy_loss": (policy_loss, [f(N, T)] * 4 + [yes(N, T), f(N, T), f(N, T)], {}),
    "objective.gvpo_loss": (
        gvpo_loss, [f(B, G, T), f(B, G, T), f(B, G), yes(B, G, T)], {"scale": 0.1},
    ),
    "objective.negative_log_likelihood": (negative_log_likelihood, [f(N, T), yes(N, T)], {}),
    "objective.reduce_tokens": (
        reductions.reduce_tokens, [f(N, T), yes(N, T)], {"reduction": "token_mean"},
    ),
    "objective.corrected": (objective.corrected, [f(T), f(T)], {"estimator": "k3"}),
    "objective.clipped_surrogate": (
        objective.clipped_surrogate, [f(T), f(T)], {"low": 0.2, "high": 0.2},
    ),
    "objective.clip_is_active": (
        ratios.clip_is_active, [f(T), f(T)], {"low": 0.2, "high": 0.2},
    ),
    "objective.sequence_log_ratio": (ratios.sequence_log_ratio, [f(T), yes(T)], {}),
    "objective.sampler_correction": (
        objective.sampler_correction, [f(T), f(T), yes(T)],
        {"mode": "token_truncate", "high": 2.0},
    ),
}  # fmt: skip
ELEMENTWISE = {
    *("equivariance", "gold_probability", "no_arms", "normalise_law"),
    *("readable", "soft_overlong", "estimate", "safe_ratio"),
}
"""Any leading axes by design; `no_arms` takes no array."""


@pytest.mark.parametrize("name", CASES)
def test_an_axis_too_many_is_refused_by_name(name):
    function, arguments, options = CASES[name]
    jax.eval_shape(lambda *a: function(*a, **options), *arguments)  # as it should be called
    parameters = list(inspect.signature(function).parameters)
    for n, argument in enumerate(arguments):
        wrong = [*arguments]
        wrong[n] = jax.tree.map(lambda x: x[None].repeat(3, axis=0), argument)
        with pytest.raises(ValueError, match=r"has shape \(.*expected \[") as error:
            jax.eval_shape(lambda *a: function(*a, **options), *wrong)
        shown = parameters[n] if name != "reward.pool" else "arms"
        assert shown in str(error.value).lower(), error.value


@pytest.mark.parametrize("room", [reward, advantage, objective], ids=lambda room: room.__name__)
def test_every_public_function_is_tried(room):
    tried = {name.partition(".")[2] for name in CASES}
    functions = {name for name in room.__all__ if inspect.isroutine(getattr(room, name))}
    functions |= {n for n in room.__all__ if type(getattr(room, n)).__name__ == "PjitFunction"}
    assert functions - tried - ELEMENTWISE == set()


def test_all_arguments_with_an_axis_too_many_are_refused_as_well():
    for rewards in (f(B, G), np.zeros((B, G))):
        with pytest.raises(ValueError, match=r"reward has shape \(2, 5\), expected \[G\]; where"):
            advantage.leave_one_out(rewards, yes(B, G))
    with pytest.raises(ValueError, match=r"score has shape \(2, 5, 4\), expected \[G, E\]"):
        reward.fill_undefined(f(B, G, E), yes(B, G, E))
    with pytest.raises(ValueError, match=r"Laws.before has shape \(5, 3\)"):
        reward.score(jax.tree.map(lambda x: jnp.stack([x] * G), LAWS))


def test_sizes_are_compared_and_named():
    check(a=(f(2, 3), "E A"), b=(f(2, 5, 3), "E P A"), c=(f(3), "E+1"), d=(0.5, ""))
    check(a=(f(7, 2, 3), "... A"), b=(f(7, 2, 5, 3), "... P A"), c=(f(7, 2), "..."))
    check(a=(f(2, 0), "E P"), b=(f(0), "P"))
    with pytest.raises(ValueError, match=r"b has shape \(2, 5, 4\).*; a has shape \(2, 3\)"):
        check(a=(f(2, 3), "E A"), b=(f(2, 5, 4), "E P A"))
    with pytest.raises(ValueError, match=r"m has .*3,\), expected \[E\]; v has .*\[E\+1\]"):
        check(v=(f(3), "E+1"), m=(f(3), "E"))
    with pytest.raises(ValueError, match=r"c has shape \(2,\), expected \[...\]; a has shape"):
        check(a=(f(7, 2, 3), "... A"), c=(f(2), "..."))
    with pytest.raises(ValueError, match=r"a has shape \(\), expected \[..., A\]"):
        check(a=(f(), "... A"))

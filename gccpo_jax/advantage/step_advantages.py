"""From scores of steps to advantages of tokens. Arrays in, arrays out; no gradient flows.

Group baselines are over one question's trajectories, so nothing here depends on
how questions are batched or placed on devices.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.masked import leave_one_out_mean, masked_mean, masked_sum, safe_divide
from gccpo_jax.shapes import check, shaped
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Array, Spans

SURE = 0.9
"""Probability from which a token counts as certain."""


@shaped(gated="E", tokens="E")
def discounted_effects(gated: Array, tokens: Array, *, lam: float, tokens_per_unit: float) -> Array:
    """Sum of later gated effects, discounted by the tokens in between.

        A_k = sum_{j >= k} lam^{(tokens of steps k+1..j) / t0} d~_j

    lam = 1 with no gate telescopes to o - Phi_{k-1}; lam = 0 is pure step credit. GAE
    (arXiv 1506.02438) with Phi as the critic and steps as time.
    The decay is per token, so a piece without effect, cut off the front of a step, changes
    no other advantage. Where both pieces have an effect, what comes first is discounted
    by fewer tokens and earlier advantages move, except at lam = 1.

    Args:
      gated: [E] d~, 0 on padding. tokens: [E] tokens of each step, 0 on padding.
      lam: in [0, 1]. tokens_per_unit: t0, tokens over which the decay is `lam`; 0: one step.
    Example: Phi (.1, .3, .25), o = 1, R (.5, .8, -), tokens (10, 20, 10), t0 = 10,
      answer step not gated: (.80, .70, .75) at lam 1, (.60625, .625, .75) at lam .9.
      Effects (.1, .5), tokens (10, 20), t0 10, lam .5: A_1 = .1 + .5 / 4 = .225; with the last
      step in halves of effect .25 each it is .1 + .25 / 2 + .25 / 4 = .2875.
    """
    units = tokens.astype(jnp.float32) / tokens_per_unit if tokens_per_unit else tokens > 0
    decay = jnp.float32(lam) ** units

    def back(later: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        effect, decay = inputs
        advantage = effect + later
        return decay * advantage, advantage

    return jax.lax.scan(back, jnp.float32(0), (gated, decay), reverse=True)[1]


@shaped(value_before="E", reward="", mask="E")
def pooled_effects(value_before: Array, reward: Array, mask: Array, *, draws: int) -> Array:
    """Advantage of each step by its value and the reward as one more draw of it.

        A_k = (N Phi_k + r)/(N + 1) - Phi_{k-1},     last: r - Phi_{K-1}

    Args:
      value_before: [E] Phi_{k-1}. reward: [] r. mask: [E] bool. draws: N of each Phi.
    Example: Phi (.1, .3, .25), r 1, N 3: (.375, .1375, .75).
    """
    following = jnp.append(mask[1:], False)
    after = jnp.where(following, jnp.append(value_before[1:], 0.0), reward)
    pooled = jnp.where(following, (draws * after + reward) / (draws + 1), reward)
    return jnp.where(mask, pooled - value_before, 0.0)


@shaped(value_before="G E", reward="G", mask="G E", where="G")
def shrunk_baseline(
    value_before: Array, reward: Array, mask: Array, where: Array, *, draws: int, weight: float
) -> Array:
    """What a baseline of few draws is corrected by, [G, E]: Phi - (N Phi + a m)/(N + a).

    m: mean reward of the other trajectories. Added to an advantage that subtracts Phi; in the
    baseline's place alone, so it biases nothing (m does not depend on the trajectory).

    Args:
      value_before: [G, E] Phi_{k-1}. reward: [G]. mask: [G, E]. where: [G] scorable.
      draws: N. weight: a, in draws; 0 leaves Phi.
    Example: Phi .5 of N 2 draws, m 1, a .5: -.1.
    """
    others = leave_one_out_mean(reward, where)[:, None]
    return jnp.where(mask, weight / (draws + weight) * (value_before - others), 0.0)


@shaped(advantage="G E", mask="G E")
def recentre(advantage: Array, mask: Array) -> Array:
    """Subtracts the leave-one-out group mean of the same step index.

    Args:
      advantage, mask: [G, E]. A step that no other trajectory has keeps its advantage; where
        all are equal they become exactly 0.
    No division by a standard deviation: most effects are 0, and must stay 0.
    With Phi the group's mean outcome, no gate and lam = 1 this is `leave_one_out`.
    """
    highest = jnp.max(jnp.where(mask, advantage, -jnp.inf), axis=0, keepdims=True)
    lowest = jnp.min(jnp.where(mask, advantage, jnp.inf), axis=0, keepdims=True)
    alike = (highest == lowest) & (jnp.sum(mask, axis=0, keepdims=True) > 1)
    centred = advantage - leave_one_out_mean(advantage, mask, axis=0)
    return jnp.where(mask & ~alike, centred, 0.0)


@shaped(logp="T", step="T", mask="T")
def unsure_weights(logp: Array, step: Array, mask: Array, max_steps: int) -> Array:
    """Weights [T] of 1 on tokens that the policy was not sure of (p < .9), 0 on the others.

    The probability mask of SPO (arXiv 2505.23564): a step without such a token trains
    nothing. Arguments as `surprise_weights`.
    Example: p (.95, .5) gives (0, 1).
    """
    return (mask & (step < max_steps) & (logp < jnp.log(SURE))).astype(jnp.float32)


@shaped(logp="T", step="T", mask="T")
def surprise_weights(logp: Array, step: Array, mask: Array, max_steps: int) -> Array:
    """Weights [T] proportional to -log p of each token, with token mean 1 inside every step.

    An all-zero step (deterministic tokens) falls back to uniform.
    Example: log p (-1, -3 | -2, -2) gives (.5, 1.5 | 1, 1).

    Args:
      logp: [T] behaviour log-probabilities. step: [T] step of each token (E: none).
      mask: [T] bool. max_steps: E.
    """
    surprise = jnp.where(mask, -logp, 0.0)
    member = (step[:, None] == jnp.arange(max_steps)[None]) & mask[:, None]  # [T, E]
    total = masked_sum(jnp.broadcast_to(surprise[:, None], member.shape), member, axis=0)
    count = jnp.sum(member, axis=0, dtype=jnp.float32)
    index = jnp.minimum(step, max_steps - 1)
    scale = safe_divide(count, total)[index]
    weights = jnp.where(total[index] > 0, surprise * scale, 1.0)
    return jnp.where(mask, weights, 0.0)


def to_tokens(per_step: Array, spans: Spans, size: int) -> Array:
    """Spreads [E] over the tokens [T] of each step; 0 outside every step."""
    check(per_step=(per_step, "E"), spans=(spans.mask, "E"))
    step = step_of_token(spans, size)
    return jnp.append(per_step, 0.0)[step]


@shaped(score="E", tokens="E")
def mass_preserving(score: Array, tokens: Array, *, floor: float) -> Array:
    """Step weights that move an advantage between steps and keep its mean over the tokens.

        w_k = (floor + Q_k) T / sum_j n_j (floor + Q_j)

    Equal scores give 1 everywhere; so does a trajectory without any weight.

    Args:
      score: [E] Q >= 0, defined everywhere. tokens: [E] n, tokens of each step, 0 on padding.
      floor: >= 0, what a step without any selectivity keeps.
    Returns:
      [E], with token mean 1; 0 where a step has no tokens.
    Example: Q (.3, .1), tokens (10, 30), floor .1 give (1.6, .8).
    """
    tokens = tokens.astype(jnp.float32)
    raw = floor + score
    total = jnp.sum(raw * tokens)
    weight = jnp.where(total > 0, raw * safe_divide(jnp.sum(tokens), total), 1.0)
    return jnp.where(tokens > 0, weight, 0.0)


@shaped(score="E", tokens="E", where="E")
def token_mean(score: Array, tokens: Array, where: Array) -> tuple[Array, Array]:
    """Mean of the selected steps' scores [E], weighted by their tokens [E].

    Returns the mean and whether any selected step has tokens (0 where not). Splitting
    a step changes nothing. Example: (.3, .1) with tokens (10, 30) gives .15.
    """
    weight = jnp.where(where, tokens, 0).astype(jnp.float32)
    total = jnp.sum(weight)
    mean = safe_divide(jnp.sum(jnp.where(where, score, 0.0) * weight), total)
    return mean, total > 0


@shaped(outcome="...", soundness="...")
def four_corner(outcome: Array, soundness: Array, *, a: float, b: float) -> Array:
    """One reward for being right and for being right for a reason.

        r = o (a + (1 - a) q) + (1 - o) b q

    The corners: sound and right 1, lucky a, sound but wrong b, flawed and wrong 0.
    A right answer pays at least `a`; sound-but-wrong beats lucky-but-flawed only where
    b q_s > a + (1 - a) q_f, with the defaults a = .25, b = .5 where q_s > .5 + 1.5 q_f.

    Args:
      outcome: [...] o in [0, 1]. soundness: [...] q in [0, 1]. a, b: in [0, 1].
    Example: (o, q) = (0, .8) gives .4, (1, .2) gives .4, (1, .8) gives .85.
    """
    return outcome * (a + (1 - a) * soundness) + (1 - outcome) * b * soundness


def to_steps(per_token: Array, spans: Spans) -> Array:
    """Mean [E] of [T] over the tokens of each step; 0 where a step has none."""
    check(per_token=(per_token, "T"), spans=(spans.mask, "E"))
    step = step_of_token(spans, per_token.shape[0])
    member = step[:, None] == jnp.arange(spans.mask.shape[0])[None]
    return masked_mean(jnp.broadcast_to(per_token[:, None], member.shape), member, axis=0)

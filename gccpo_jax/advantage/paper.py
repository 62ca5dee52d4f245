"""`gccpo_paper`: a reconstruction of arXiv 2602.06475 from its public record.

    rob_k = exp(-mean_m KL(q_k || q_km))       eff_k = x / (1 + x),  x = energy_k / scale
    R_k   = r_out / K + alpha (rob_k + weight eff_k)
    r_t   = R_k w_t / sum of w in step k       w_t = -log p_old(t)
    rt    = truncated mean of r_t              A = z-score of rt over the group
    A_t   = A r_t / rt                         |rt| floored, |A_t| clipped

Exact, as far as the public record states it: rollouts of one question are
counterfactual experiments; an episodic reward joins robustness (the answer law
stays put under perturbation of the step) and effectiveness; token-level
advantages are built from it; the outcome stays in. Exact in L2T (arXiv
2505.10425), whose first author is the same: r_out / K + alpha r_k, the share of
a token in proportion to its surprise, the "95 % truncated mean" over tokens, the
group z-score and the map back A_t = A r_t / rt.

Second-hand (a reader's digest): perturbations act on the latent of the step's
last token; the stability of the answer law and the norm of the latent make the
reward; the numbers .9 and .8 weigh something.

Inferred: that the token half is L2T's. Which of .9 and .8 is alpha, and which
weighs effectiveness, is unknown; we take them in the order of L2T's (alpha, beta).

Ours: KL as the divergence and exp(-KL) as its shape; answer laws of a scored
reader over a fixed candidate set, floored at 1e-8; energy as the mean square of
the latent over its mean over the group, x / (1 + x); noise on the step's keys and
values in all layers, since noise on a last-layer state reaches no later token;
steps without a readable law taking the group's median; a two-sided truncation of
2.5 % a side; the floor on |rt|, the clip on |A_t|, and A on every token of a
rollout whose token rewards are all 0 (0/0).

Known faults of the formulas, which the tests pin: a reader that always answers
the same is perfectly robust (watch `law_variation` in the metrics); a larger norm
pays though RMSNorm makes it no behaviour at all; in a rollout below the group's
mean the best tokens are punished most; rt falls with length, and rises with K.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.advantage.baselines import group_zscore
from gccpo_jax.advantage.step_advantages import surprise_weights
from gccpo_jax.masked import masked_mean, safe_divide
from gccpo_jax.reward import kl_divergence
from gccpo_jax.shapes import check, shaped
from gccpo_jax.types import Array

ROUNDING = 1e-5
"""A mean of token rewards below this share of the largest of them is 0."""
LAW_FLOOR = 1e-8  # of a perturbed law: KL is at most 18.4 nats a unit of mass


def robustness(factual: Array, perturbed: Array, usable: Array) -> tuple[Array, Array]:
    """rob = exp(-mean_m KL(q || q_m)) in (0, 1], over the usable arms.

    Args: factual [..., A], or [..., P, A] one beside each arm; perturbed [..., P, A];
    usable [..., P] bool.
    Returns rob [...] and whether any arm was usable (0 where not). Equal laws give 1.
    Example: softmax(2 h), h = (1, 0), moved by (0, 1) and by (.5, 0): KL .327813 and
      .040862, rob .831655.
    """
    beside = "... A" if factual.ndim < perturbed.ndim else "... P A"
    check(factual=(factual, beside), perturbed=(perturbed, "... P A"), usable=(usable, "... P"))
    if factual.ndim < perturbed.ndim:
        factual = jnp.broadcast_to(factual[..., None, :], perturbed.shape)
    factual = jnp.where(usable[..., None], factual, 0.0)
    perturbed = jnp.where(usable[..., None], perturbed, factual)
    divergence = jnp.maximum(kl_divergence(factual, jnp.maximum(perturbed, LAW_FLOOR)), 0.0)
    defined = jnp.any(usable, axis=-1)
    return jnp.where(defined, jnp.exp(-masked_mean(divergence, usable, axis=-1)), 0.0), defined


@shaped(energy="G E", mask="G E")
def effectiveness(energy: Array, mask: Array) -> Array:
    """eff = x / (1 + x) in [0, 1), x = energy over its mean over the group.

    Args: energy [G, E] >= 0, mean square of each step's latent; mask [G, E] bool.
    Returns [G, E]; 0 outside the mask. The scale of *all* latents does not matter, the
    scale of one against its siblings does: (1, 1) gives (.5, .5), (1, 3) (1/3, .6).
    """
    relative = safe_divide(jnp.where(mask, energy, 0.0), masked_mean(energy, mask))
    return relative / (1.0 + relative)


@shaped(process="E", outcome="", logp="T", step="T", inside="T", mask="E")
def token_rewards(
    process: Array, outcome: Array, logp: Array, step: Array, inside: Array, mask: Array,
    *, alpha: float,
) -> Array:  # fmt: skip
    """Rewards r_t of one trajectory's tokens; they sum to r_out + alpha sum_k r_k.

        R_k = r_out / K + alpha r_k,   r_t = R_k w_t / sum_{t' in k} w_t',   w_t = -log p_old

    Args:
      process: [E] r_k. outcome: [] r_out. logp: [T]. step: [T] step of each token (E: none).
      inside: [T] bool, response tokens. mask: [E] bool, steps that exist.
      alpha: weight of the process.
    Returns:
      [T]; 0 outside steps. A step of deterministic tokens shares evenly (0/0).
    Example: log p (-1, -3 | -2, -2), r_k (.2, .1), r_out 1, alpha .8 give R (.66, .58)
      and r_t (.165, .495, .29, .29).
    """
    size = mask.shape[0]
    share = safe_divide(outcome, jnp.sum(mask, dtype=jnp.float32))
    episode = jnp.where(mask, share + alpha * process, 0.0)
    tokens = jnp.sum((step[:, None] == jnp.arange(size)[None]) & inside[:, None], axis=0)
    each = jnp.append(safe_divide(episode, tokens.astype(jnp.float32)), 0.0)
    return each[step] * surprise_weights(logp, step, inside, size)


@shaped(x="T", mask="T")
def truncated_mean(x: Array, mask: Array, *, truncation: float) -> Array:
    """Mean of x [T] over the mask [T] without the `truncation` largest and smallest.

    floor(truncation n) of n entries go at *each* end; in [0, .5). 0 for an empty mask.
    Example: (9, 1, 2, 3, -7) at .2 gives 2.
    """
    count = jnp.sum(mask)
    cut = jnp.floor(truncation * count + 1e-4).astype(count.dtype)  # .35 * 20 is not below 7
    ordered = jnp.sort(jnp.where(mask, x, jnp.inf))
    rank = jnp.arange(x.shape[0])
    return masked_mean(ordered, (rank >= cut) & (rank < count - cut))


@shaped(advantage="", reward="T", score="", inside="T")
def back_map(
    advantage: Array, reward: Array, score: Array, inside: Array, *, floor: float, clip: float
) -> Array:
    """Token advantages A_t = A r_t / rt of one rollout, with |rt| >= floor and |A_t| <= clip.

    Args:
      advantage: [] A of the rollout. reward: [T] r_t. score: [] rt. inside: [T] bool.
      floor: > 0. Without it rt near 0 makes A_t explode. clip: > 0.
    Returns:
      [T]; without truncation, floor and clip their mean is A. A rollout whose r_t are
      all 0 has A on every token.
    Example: A -1, r_t (-.04, -.04, .04), rt -.0133333 give (-3, -3, 3).
    """
    divisor = jnp.where(score < 0, -1.0, 1.0) * jnp.maximum(jnp.abs(score), floor)
    nothing = ~jnp.any(inside & (reward != 0))
    mapped = advantage * jnp.where(nothing, 1.0, reward / divisor)
    return jnp.where(inside, jnp.clip(mapped, -clip, clip), 0.0)


@shaped(process="G E", outcome="G", where="G", logp="G T", step="G T", inside="G T", mask="G E")
def token_advantages(
    process: Array, outcome: Array, where: Array, logp: Array, step: Array, inside: Array,
    mask: Array, *, alpha: float, truncation: float, ddof: int, epsilon: float, floor: float,
    clip: float,
) -> Array:  # fmt: skip
    """The token half for a group, [G, T]: L2T's too, with D_k - beta C_k for r_k.

    Token rewards, their truncated mean rt, its z-score over the group, and the map back.

    Args: process, mask [G, E]; outcome, where [G]; logp, step, inside [G, T]; the rest as
    `token_rewards`, `truncated_mean`, `group_zscore` and `back_map` have it.
    Example, alpha .8, no truncation, ddof 0: A of `token_rewards`' example and B, log p
      (-1, -1 | -1), r_k (-.1, .05), r_out 0, give rt (.31, -.0133333) and A_t (.532258,
      1.596774, .935484, .935484) and (-3, -3, 3).
    """
    rewards = jax.vmap(partial(token_rewards, alpha=alpha))(
        process, outcome, logp, step, inside, mask
    )
    score = jax.vmap(partial(truncated_mean, truncation=truncation))(rewards, inside)
    # Rewards that cancel leave rounding, which the floor and the z-score would blow up.
    cancelled = jnp.abs(score) <= ROUNDING * jnp.max(jnp.abs(rewards), axis=-1)
    score = jnp.where(cancelled, 0.0, score)
    scalar = group_zscore(score, where, ddof=ddof, epsilon=epsilon)
    return jax.vmap(partial(back_map, floor=floor, clip=clip))(scalar, rewards, score, inside)

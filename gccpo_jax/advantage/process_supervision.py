"""Advantages and curation from scores of steps that a judge outside the policy has given.

GRPO with process supervision (arXiv 2402.03300, section 4.1.3), the baseline of MRT
(2503.07572), the penalty of L2T (2505.10425), and the filter of PROF (2509.03403).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gccpo_jax.advantage.baselines import group_zscore
from gccpo_jax.masked import masked_mean, masked_sum
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array, Params


@shaped(score="G E", mask="G E")
def process_supervision(
    score: Array, mask: Array, *, ddof: int = 1, epsilon: float = 1e-4
) -> Array:
    """Step advantages [G, E]: the sum of the z-scores of this step and all later ones.

        z = (r - mean r) / (std r + epsilon) over all steps of the group,  A_k = sum_{j >= k} z_j

    Constant inside a step. One step per trajectory is GRPO. Longer trajectories weigh more
    in the mean and sum more terms.

    Args:
      score: [G, E]. mask: [G, E] bool, steps that exist and have a score.
    Example, ddof 0, epsilon -> 0: (1, 0), (0, 0, 1) give (.408248, -.816497) and
      (-.408248, .408248, 1.224745).
    """
    flat = group_zscore(score.reshape(-1), mask.reshape(-1), ddof=ddof, epsilon=epsilon)
    z = flat.reshape(score.shape)  # 0 outside the mask
    return jnp.where(mask, jnp.cumsum(z[:, ::-1], axis=1)[:, ::-1], 0.0)


@shaped(score="E", mask="E")
def least_remaining(score: Array, mask: Array, *, temperature: float) -> Array:
    """PURE's return [E] of each step: the least of this and the later step scores, softly.

        G_k = sum_{j >= k} w_j r_j,   w_j = exp(-r_j / t) / sum_{i >= k} exp(-r_i / t)

    arXiv 2504.15275; between the least score and their mean, the least as t goes to 0. A
    response of one good step is never worse than a long one: see `min_supervision`.

    Args: score, mask [E]; temperature > 0, .1 in the paper.
    Example: (1, 0, .5) at .1: (.0033919, .0033464, .5).
    """
    score = jnp.where(mask, score, 0.0)
    step = jnp.arange(score.shape[0])
    counts = (step[None] >= step[:, None]) & mask[None] & mask[:, None]
    weight = jax.nn.softmax(-score[None] / temperature, axis=1, where=counts)
    return jnp.where(mask, masked_sum(weight * score[None], counts, axis=1), 0.0)


@shaped(score="G E", mask="G E")
def min_supervision(
    score: Array, mask: Array, *, temperature: float = 0.1, ddof: int = 1, epsilon: float = 1e-4
) -> Array:
    """Step advantages [G, E]: the z-score of `least_remaining` over all steps of the group.

    Known hazard, which a test pins: nothing rewards what is left out, so an empty or a
    one-step response that the judge likes beats every longer one with a doubtful step.

    Args: score [G, E]; mask [G, E] bool, steps that exist and have a score.
    """
    least = jax.vmap(lambda r, m: least_remaining(r, m, temperature=temperature))(score, mask)
    z = group_zscore(least.reshape(-1), mask.reshape(-1), ddof=ddof, epsilon=epsilon)
    return z.reshape(score.shape)


@shaped(score="E", tokens="E", mask="E")
def token_gain(score: Array, tokens: Array, mask: Array) -> Array:
    """L2T's reward [] as its code was released: sum_{k > 1} n_k (r_k - r_{k-1}).

    The gain of a judge's score between the ends of consecutive steps is written to each of
    the step's n_k tokens and summed over the response: long steps count for more, the first
    step for nothing (the code's -.01 for a malformed response is left out).

    Args: score, tokens, mask [E]; existing steps come first.
    Example: (.2, .5, .4) with (9, 10, 20) tokens: 10 x .3 - 20 x .1 = 1.
    """
    follows = mask[1:] & mask[:-1]
    gain = (score[1:] - score[:-1]) * tokens[1:].astype(jnp.float32)
    return masked_sum(gain, follows)


@shaped(reward="G", terminated="H", where="G", ends="H")
def over_terminating(reward: Array, terminated: Array, where: Array, ends: Array) -> Array:
    """MRT's advantage [G] against answering at once: A = R - mean reward of those that did.

    Args:
      reward: [G] of rollouts that went on from one prefix. terminated: [H] rewards of
      rollouts that ended their thought there. where: [G], ends: [H] bool, scorable ones.
    0 where no terminated rollout could be scored.
    """
    centred = reward - masked_mean(terminated, ends)
    return jnp.where(where & jnp.any(ends), centred, 0.0)


def compression(logp: Callable[[Params], Array], params: Params, change: Params) -> Array:
    """L2T's penalty C = (g . change)^2 >= 0, g the gradient of a log-probability, for each of them.

    The information that a step leaves in the parameters, with a Fisher matrix of rank one
    (arXiv 2505.10425, theorem 4.2); one `jvp`, no gradient is stored.

    Args:
      logp: parameters to log-probabilities [...], one a step, each given its prefix.
      params, change: pytrees of one structure; which change is meant (since the start of
      training, say) is the caller's: the paper does not define it inside one rollout.
    Example: g (1, -2, .5), change (.1, .1, .4): .01.
    """
    along = jax.jvp(logp, (params,), (change,))[1]
    return along**2


@shaped(score="E", mask="E", right="", centre="")
def consistency(
    score: Array,
    mask: Array,
    right: Array,
    centre: Array,
    *,
    penalty: float = 10.0,
    least: int = 2,
    most: int = 30,
) -> Array:
    """PROF's score [] of one trajectory: how well a judge's step scores fit its outcome.

        c = y 2 mean_h (p_h - pbar) - penalty [steps < least or steps > most],  y = +-1

    Args:
      score: [E] step scores p. mask: [E] bool. right: [] bool. centre: [] pbar, mean
      step score of the batch. penalty: outside the sign, as in the released code.
    """
    sign = jnp.where(right, 1.0, -1.0)
    steps = jnp.sum(mask)
    odd = (steps < least) | (steps > most)
    inner = masked_mean(score - centre, mask)
    return sign * 2.0 * inner - jnp.where(odd, penalty, 0.0)


@shaped(score="G", right="G", where="G")
def curate(score: Array, right: Array, where: Array, *, remove: int) -> Array:
    """PROF's filter: [G] bool, trajectories that stay when `remove` go to balance the classes.

    Of n+ right and n- wrong ones go the k+ right and remove - k+ wrong of lowest score,
    k+ = clip(round((n+ - n- + remove) / 2), 0, remove), rounding half to even; ties go in
    order. Unscorable trajectories go first and count towards `remove`.

    Args:
      score: [G] `consistency`. right, where: [G] bool. remove: in [0, G].
    Example, G 8, remove 4: n+ = 2..6 keep 2 and 2, n+ = 1 keeps 1 and 3, n+ = 7 3 and 1.
    """
    right, wrong = where & right, where & ~right
    goes = jnp.maximum(remove - jnp.sum(~where), 0)
    excess = jnp.sum(right) - jnp.sum(wrong)
    half = jnp.round((excess + goes) / 2).astype(goes.dtype)
    of_right = jnp.clip(half, 0, goes)
    return where & ~_lowest(score, right, of_right) & ~_lowest(score, wrong, goes - of_right)


def _lowest(score: Array, where: Array, count: Array) -> Array:
    """[G] bool: the `count` selected entries of lowest score, the first of equal ones."""
    order = jnp.argsort(jnp.where(where, score, jnp.inf), stable=True)
    return where & (jnp.argsort(order) < count)

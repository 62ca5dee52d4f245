"""SDPO: what the policy itself would have written with a right answer before its eyes.

    A_t = log pi(x_t | question, right sibling, question, x_<t) - log pi(x_t | question, x_<t)

A token that hindsight makes likelier gains, one that it makes less likely loses: the gradient
of KL(student || teacher) along the student's own text (arXiv 2601.20802). The teacher is the
policy that sampled, no gradient flows through it, and a group without a right trajectory other
than the student has no teacher.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.baselines import RIGHT
from gccpo_jax.masked import length_mask
from gccpo_jax.objective.ratios import bounded_logp
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.questions import token_rows
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.types import Array, Params, Policy


def self_distilled(
    solver: Solver, params: Params, sampled: Traces, rule: Rule
) -> tuple[Array, dict[str, float]]:
    """Token advantages [B, G, T], and for the log the tokens that teachers read.

    Args: `params` that sampled; `rule` of the law that was sampled, the teacher's too.
    """
    teacher = right_sibling(sampled.outcome)
    prompts = sampled.prompts
    asked = [to_host(x) for x in (prompts.tokens, prompts.mask)]
    tokens, mask = hindsight(*asked, sampled.tokens, sampled.lengths, teacher)
    rollout = sampled.rollout
    seen = (jnp.asarray(tokens), jnp.asarray(mask), rollout.tokens, rollout.length, rollout.logp)
    has = jnp.asarray(teacher >= 0)
    advantage = log_ratio(solver.policy, params, *seen, has, rule=rule)
    read = mask[teacher >= 0].sum() + sampled.lengths[teacher >= 0].sum()
    return advantage, {"teacher_tokens": float(read), "taught": float((teacher >= 0).mean())}


def right_sibling(outcome: np.ndarray) -> np.ndarray:
    """[B, G] int: the next right trajectory of the group, in a circle; -1 where there is none.

    Args: outcome [B, G], NaN where unscorable: it neither teaches nor learns.
    """
    group = outcome.shape[1]
    at = (np.arange(group)[:, None] + np.arange(1, group)) % group  # [G, G - 1] the others, in turn
    right = outcome[:, at] > RIGHT
    first = np.take_along_axis(np.broadcast_to(at, right.shape), right.argmax(-1)[..., None], -1)
    return np.where(right.any(-1) & ~np.isnan(outcome), first[..., 0], -1)


def hindsight(
    prompt: np.ndarray,  # [B, S]
    asked: np.ndarray,  # [B, S] bool
    tokens: np.ndarray,  # [B, G, T]
    lengths: np.ndarray,  # [B, G]
    teacher: np.ndarray,  # [B, G] int
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts [B, G, 2 S + T] and their masks: the question, the sibling, the question again.

    A trajectory without a teacher has its question alone.
    """
    batch, group, _ = tokens.shape
    rows = []
    for b, g in np.ndindex(batch, group):
        question, other = prompt[b, asked[b]], teacher[b, g]
        seen = [tokens[b, other, : lengths[b, other]], question] if other >= 0 else []
        rows.append(np.concatenate([question, *seen]))
    found, mask = token_rows(rows, 2 * prompt.shape[1] + tokens.shape[2])
    return found.reshape(batch, group, -1), mask.reshape(batch, group, -1)


@partial(jax.jit, static_argnames=("policy", "rule"))
def log_ratio(
    policy: Policy,
    params: Params,
    tokens: Array,  # [B, G, S'] the teachers' prompts
    mask: Array,
    response: Array,  # [B, G, T]
    length: Array,  # [B, G]
    logp: Array,  # [B, G, T] of the student
    has: Array,  # [B, G] bool
    *,
    rule: Rule,
) -> Array:
    """The teacher's log-probability less the student's, [B, G, T]; 0 without a teacher."""
    inside = length_mask(length, response.shape[-1]) & has[..., None]
    rows = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    given = (rows(tokens), rows(mask), rows(response)[:, None], rows(inside)[:, None])
    taught = token_logp(policy, params, *given, rule=rule).reshape(logp.shape)
    return jnp.where(inside, bounded_logp(taught) - bounded_logp(logp), 0.0)

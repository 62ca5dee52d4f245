"""GCPO (arXiv 2508.05428): advantages in the light of what is written with the group in view.

    B_i = A_i Upsilon_i,   Upsilon_i = alpha cos(z_i, Zbar_i - Zbar'_i + zbar)
    pi'_t = pi(x_t | x_i,0) - mean_l pi(x_t | x_i,l) + pi(x_t | q),   J -= kappa k3(pi'_t, pi_t)

z is the last hidden state of a response's last token. The policy is shown the question and all of
its group's responses and answers anew (the integrated outputs y_n,l). Then it is shown x_i,l: the
question, all responses but the i-th, and an integrated output; Zbar_i is the mean z of what it
writes after x_i,0, Zbar'_i over all l as well.

The budget n' is how many integrated outputs there are, and how many responses are written after
each context: n' + G n' n' generations of contexts as long as the group. With n' = 1 both means
are one and the factor is alpha cos(z_i, zbar). pi' is no probability: it is floored. The paper
sums over l where we take the mean, without which pi' is negative nearly everywhere.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.baselines import causal_weight
from gccpo_jax.masked import length_mask
from gccpo_jax.policy.logprobs import in_chunks, response_states
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.buckets import padded
from gccpo_jax.sampling.questions import token_rows
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.types import Array, Params, Policy, Prompts, Rollout

FLOOR = 1e-8
"""Least value of pi', which may be negative."""


@dataclasses.dataclass(frozen=True)
class Causal:
    """What the group says of each of its responses."""

    factor: Array  # [B, G]  Upsilon
    anchor: Array  # [B, G, T]  log pi' of each token, 0 on padding
    metrics: dict[str, float]


def causal_group(
    solver: Solver, params: Params, sampled: Traces, *, budget: int, alpha: float
) -> Causal:
    """Writes and reads the re-generations of a batch.

    Args: `params` that sampled; budget n' >= 1; alpha of the factor.
    """
    policy, rule = solver.policy, sampled.rule
    group = sampled.lengths.shape[1]
    asked = [to_host(x) for x in (sampled.prompts.tokens, sampled.prompts.mask)]
    keys = jax.vmap(lambda key: jax.random.fold_in(key, noise.CAUSAL))(sampled.keys)
    of_rows = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))
    how = {"stop": solver.stop, "group": budget, "rule": rule, "max_tokens": sampled.limit}
    write = partial(sample, policy, params, **how)

    whole = in_view(*asked, sampled.tokens, sampled.lengths)
    _, integrated = write(_prompts(*whole), keys)
    others = (to_host(integrated.tokens), to_host(integrated.length))
    seen = _prompts(*without(*asked, sampled.tokens, sampled.lengths, *others))
    rows = of_rows(keys, 1 + jnp.arange(group * budget)).reshape(-1)
    _, again = write(seen, rows)
    own = dataclasses.replace(sampled.rollout, segment=None)
    size = own.tokens.shape[-1]
    wide = max(size, again.tokens.shape[-1])
    alike = dataclasses.replace(own, tokens=padded(own.tokens, wide))
    given = (sampled.prompts, alike, seen, padded(again.tokens, wide), again.length)
    factor, anchor = read_group(policy, params, *given, rule=rule, alpha=alpha)
    contexts = float(whole[1].sum() + 2 * to_host(seen.mask).sum())
    written = float(others[1].sum() + 2 * to_host(again.length).sum())
    read = contexts + written + budget * float(sampled.lengths.sum())
    metrics = {
        "causal_tokens": read,
        "causal_factor": float(factor.mean()),
        "causal_flips": float((factor < 0).mean()),
    }
    return Causal(factor, anchor[..., :size], metrics)


def in_view(
    prompt: np.ndarray, asked: np.ndarray, tokens: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[B, 2 S + G T] and its mask: the question, the responses of its group, the question again.

    Args: prompt, asked [B, S]; tokens [B, G, T]; lengths [B, G].
    """
    found = []
    for b in range(len(prompt)):
        question = prompt[b, asked[b]]
        given = [row[:n] for row, n in zip(tokens[b], lengths[b], strict=True)]
        found.append(np.concatenate([question, *given, question]))
    return token_rows(found, 2 * prompt.shape[1] + tokens.shape[1] * tokens.shape[2])


def without(
    prompt: np.ndarray,
    asked: np.ndarray,
    tokens: np.ndarray,
    lengths: np.ndarray,
    integrated: np.ndarray,
    sizes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """[B G n', 2 S + G T] and its mask: x_i,l, the group with y_n,l in the place of y_i.

    Args: as `in_view`; integrated [B, n', T']; sizes [B, n']. The longer of
    T and T' takes the place of T above.
    """
    batch, group, _ = tokens.shape
    size = max(tokens.shape[-1], integrated.shape[-1])
    found = []
    for b, i, own in np.ndindex(batch, group, integrated.shape[1]):
        question = prompt[b, asked[b]]
        given = [tokens[b, j, : lengths[b, j]] for j in range(group) if j != i]
        response = integrated[b, own, : sizes[b, own]]
        found.append(np.concatenate([question, *given, response, question]))
    return token_rows(found, 2 * prompt.shape[1] + group * size)


@partial(jax.jit, static_argnames=("policy", "rule", "alpha"))
def read_group(
    policy: Policy,
    params: Params,
    prompts: Prompts,  # [B, S]
    own: Rollout,  # [B, G, T]
    seen: Prompts,  # [B G n', S'] x_i,l
    again: Array,  # [B G n', n', T] what was written after them
    length: Array,  # [B G n', n']
    *,
    rule: Rule,
    alpha: float,
) -> tuple[Array, Array]:
    """The factors [B, G] and log pi' of the group's tokens [B, G, T]."""
    batch, group, size = own.tokens.shape
    budget = again.shape[1]
    states, last = _states(policy, params, prompts, own.tokens, own.length)
    plain = _logp(policy, params, states, own.tokens, rule)
    repeat = lambda x: jnp.repeat(x.reshape(batch * group, 1, *x.shape[2:]), budget, 0)  # noqa: E731
    texts = jnp.concatenate([repeat(own.tokens), again], axis=1)  # y_i, then what was written
    lengths = jnp.concatenate([repeat(own.length), length], axis=1)
    states, ends = _states(policy, params, seen, texts, lengths)
    inside = _logp(policy, params, states[:, :1], texts[:, :1], rule)
    inside = jnp.exp(inside.reshape(batch, group, budget, size))
    moved = inside[:, :, 0] - jnp.mean(inside, axis=2) + jnp.exp(plain)
    anchor = jnp.where(length_mask(own.length, size), jnp.log(jnp.maximum(moved, FLOOR)), 0.0)
    ends = jnp.mean(ends[:, 1:], axis=1).reshape(batch, group, budget, -1)
    centre = jnp.broadcast_to(jnp.mean(last, axis=1, keepdims=True), last.shape)
    weigh = jax.vmap(jax.vmap(partial(causal_weight, alpha=alpha)))
    return weigh(last, ends[:, :, 0], jnp.mean(ends, axis=2), centre), anchor


def _states(
    policy: Policy, params: Params, prompts: Prompts, tokens: Array, length: Array
) -> tuple[Array, Array]:
    """States [R, K, T, M] that predict each token of [R, K, T], and z [R, K, M] after the last."""
    wide = jnp.pad(tokens, ((0, 0), (0, 0), (0, 1)))
    read = jax.vmap(partial(response_states, policy, params))
    mask = length_mask(length, wide.shape[-1])
    states = read(prompts.tokens, prompts.mask, wide, mask).astype(jnp.float32)
    last = jnp.take_along_axis(states, length[..., None, None], axis=2)[:, :, 0]
    return states[:, :, :-1], last


def _logp(policy: Policy, params: Params, states: Array, tokens: Array, rule: Rule) -> Array:
    chosen = lambda law, ids: jnp.take_along_axis(law, ids[:, None], axis=1)[:, 0]  # noqa: E731
    return in_chunks(policy, params, states, tokens, chosen, rule=rule)


def _prompts(tokens: np.ndarray, mask: np.ndarray) -> Prompts:
    ids = jnp.arange(len(tokens), dtype=jnp.uint32)
    return Prompts(jnp.asarray(tokens), jnp.asarray(mask), ids)

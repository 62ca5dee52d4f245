"""Random groups of trajectories, as the package reads them and as the oracles do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.kinds import credit_batch
from gccpo_jax.reward.arms import Arms, Family
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.types import Rollout, Segment, Spans

G, E, T, C, P = 4, 3, 16, 3, 2


def group(seed=0, *, unscorable=(), counts=None):
    """What was read, spans and rollout of one question: G trajectories of 1 to E steps.

    Some laws are unreadable, some arms did not take place, and what is masked holds
    nonsense, so that a result that reads it is wrong.
    """
    random = np.random.default_rng(seed)
    counts = random.integers(1, E + 1, G) if counts is None else np.asarray(counts)
    sizes = random.integers(1, 6, (G, E))
    mask = np.arange(E) < counts[:, None]
    ends = np.cumsum(np.where(mask, sizes, 0), axis=1)
    starts = np.concatenate([np.zeros((G, 1), int), ends[:, :-1]], axis=1)
    length = ends[:, -1]
    inside = np.arange(T) < length[:, None]
    empty = jnp.zeros(G)
    rollout = Rollout(
        tokens=jnp.zeros((G, T), jnp.int32),
        logp=jnp.asarray(np.where(inside, -random.exponential(1, (G, T)), -7), jnp.float32),
        entropy=jnp.zeros((G, T)),
        length=jnp.asarray(length, jnp.int32),
        stopped=jnp.ones(G, bool),
        segment=Segment(empty, empty, empty),
    )

    def law(*shape):
        return jnp.asarray(random.dirichlet([1.0] * C + [0.3], shape), jnp.float32)

    def some(*shape):
        return jnp.asarray(random.random(shape) < 0.8)

    reading = GroupReading(
        outcome=jnp.asarray(random.integers(0, 2, G), jnp.float32),
        scorable=jnp.asarray([i not in unscorable for i in range(G)]),
        value=jnp.asarray(np.where(mask, random.random((G, E)), np.nan), jnp.float32),
        factual=law(G, E),
        nuisance=Arms(law(G, E, P), some(G, E, P), Family.NUISANCE),
        content=Arms(law(G, E, P), some(G, E, P), Family.CONTENT),
        energy=jnp.asarray(random.exponential(1, (G, E)), jnp.float32),
        equivariance=jnp.asarray(np.where(random.random(G) < 0.8, random.random(G), np.nan), "f4"),
    )
    return reading, Spans(*(jnp.asarray(x) for x in (starts, ends, mask))), rollout


def credit_one(reading, spans, rollout, use_gate, keys=None, *, rule, max_other=0.2):
    """`credit_batch` of a batch of one question."""
    batch = jax.tree.map(lambda x: x[None], (reading, spans, rollout))
    keys = None if keys is None else keys[None]
    found = credit_batch(*batch, use_gate, keys, rule=rule, max_other=max_other)
    return jax.tree.map(lambda x: x[0], found)


change = dataclasses.replace


def arms_like(arms, **fields):
    """The same arms with other laws or other usable ones."""
    return dataclasses.replace(arms, **fields)


def no_longer_usable(arms):
    """The same arms, none of which took place."""
    return arms_like(arms, usable=arms.usable & False)


def reorder(tree, order):
    """The trajectories in another order."""
    return jax.tree.map(lambda x: x[jnp.asarray(order)], tree)


def for_oracle(reading, spans, rollout):
    """The same group as `oracles_credit` reads it."""
    arrays = {k: v for k, v in vars(reading).items() if not isinstance(v, Arms)}
    wide = {k: np.asarray(v, np.float64) for k, v in arrays.items()}
    out = []
    for i in range(len(wide["outcome"])):
        count = int(np.asarray(spans.mask[i]).sum())
        steps = [(int(spans.start[i, k]), int(spans.end[i, k])) for k in range(count)]

        def arms(each, i=i, count=count):
            laws, usable = np.asarray(each.laws, np.float64), np.asarray(each.usable)
            return [
                [law if use else None for law, use in zip(laws[i, k], usable[i, k], strict=True)]
                for k in range(count)
            ]

        out.append(
            {
                "outcome": wide["outcome"][i] if reading.scorable[i] else None,
                "steps": steps,
                "logp": np.asarray(rollout.logp, np.float64)[i, : int(rollout.length[i])].tolist(),
                "phi": wide["value"][i, :count].tolist(),
                "energy": wide["energy"][i, :count].tolist(),
                "factual": [wide["factual"][i, k] for k in range(count)],
                "nuisance": arms(reading.nuisance),
                "content": arms(reading.content),
                "eq": None if np.isnan(wide["equivariance"][i]) else wide["equivariance"][i],
            }
        )
    return out


def padded_tokens(rows):
    """Lists of numbers a token as [G, T]."""
    return np.stack([np.pad(row, (0, T - len(row))) for row in rows])

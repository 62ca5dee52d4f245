"""The exogenous noise: a tape of Gumbel variables that is a function of ids.

    U[i, n, t] in R^V, iid Gumbel(0, 1)
    key = fold_in(root, step, question, stream, trajectory, draw, t)

Abduction is therefore exact: the noise behind a sampled token *is* its key. A
row's noise depends on its own ids alone, never on batch size, neighbours,
padding or devices, and it is attached to the token id, never to a rank.
Draw 0 is the factual tape (the one the rollout was sampled with); draws 1..N are
the fresh ones of continued branches. `t` counts response tokens from 0.

Streams keep purposes apart, so that adding one never shifts another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.types import Array, record

TAPE, BOUNDARIES, LATENT, RESAMPLE, SWAP, PERMUTE, SURFACE, DO, CAUSAL, LEARNED, SEARCH = range(11)
EVALUATION_STEP = 0x7FFFFFFF
"""Step id of evaluation: its noise never coincides with training's."""


def question_keys(root: Array, step: int | Array, question_ids: Array) -> Array:
    """Keys [B] of the questions of one optimisation step, from ids [B]."""
    at_step = jax.random.fold_in(root, step)
    return jax.vmap(lambda question: jax.random.fold_in(at_step, question))(question_ids)


def surface_keys(question_keys: Array, count: int) -> Array:
    """Keys [B count] of questions [B] in `count` wordings each; one wording has the question's."""
    if count == 1:
        return question_keys
    of_surface = jax.vmap(jax.random.fold_in, in_axes=(None, 0))

    def of_question(key: Array) -> Array:
        return of_surface(jax.random.fold_in(key, SURFACE), jnp.arange(count))

    return jax.vmap(of_question)(question_keys).reshape(-1)


def stream_keys(question_key: Array, stream: int, group: int) -> Array:
    """Keys [G] of one stream for the trajectories 0..G-1 of a question."""
    of_stream = jax.random.fold_in(question_key, stream)
    return jax.vmap(lambda i: jax.random.fold_in(of_stream, i))(jnp.arange(group))


def tape(trajectory_key: Array, draw: int | Array) -> Array:
    """Key of draw n of a trajectory's tape: `TAPE` stream key folded with the draw."""
    return jax.random.fold_in(trajectory_key, draw)


def gumbel(tape_key: Array, t: Array, vocab_size: int) -> Array:
    """U[t] in R^V, float32."""
    return gumbels(jax.random.fold_in(tape_key, t), (vocab_size,))


def gumbels(key: Array, shape: tuple[int, ...]) -> Array:
    """Independent standard Gumbel variables in float32, of one 32-bit word each.

        U = -log(-log(1 - w)),   w = (word + 1/2) / 2^32

    The greatest is 33 log 2 = 22.9, which a Gumbel variable exceeds with probability
    2^-33; the least is -2.81, which it falls below with 2^-24. Near the upper end, where
    the best tokens lie, exp(-U) has steps of 2^-32: tokens of probability above 1e-9 get
    their share. JAX's `mode="low"` ends at 16, its "high" takes twice the words.
    Example: the word 0x80000000 gives 0.366513, the median.
    """
    words = jax.random.bits(key, shape, jnp.uint32).astype(jnp.float32)
    w = jnp.minimum((words + 0.5) * 2.0**-32, 1 - 2.0**-24)  # rounded, a word may be 2^32
    return -jnp.log(-jnp.log1p(-w))


@record
class Tape:
    """The tape of one row as a value: recorded at first, keyed after that.

    R = 0 is the keyed tape; R > 0 is noise that was abducted (`abduction.abduct`).
    R is a shape, hence static: a keyed tape compiles to what `gumbel` alone does.
    """

    key: Array  # []  a tape key
    recorded: Array  # [R, V] f32  noise of positions 0..R-1


def keyed(keys: Array, vocab_size: int) -> Tape:
    """Tapes [...] of keys [...], nothing recorded."""
    return Tape(keys, jnp.zeros((*keys.shape, 0, vocab_size)))


def at(tape: Tape, t: Array, vocab_size: int) -> Array:
    """U[t] in R^V: `recorded[t]` for t < R, else `gumbel(key, t)`."""
    keyed = gumbel(tape.key, t, vocab_size)
    size = tape.recorded.shape[0]
    if size == 0:
        return keyed
    return jnp.where(t < size, tape.recorded[jnp.minimum(t, size - 1)], keyed)

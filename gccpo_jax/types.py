"""The records that cross stages, and the policy as an argument.

Axes, here and everywhere else in the package:

====  =====================================================================
`B`   questions of a batch
`G`   group: trajectories sampled for one question
`E`   steps of a trajectory (segments, episodes), padded
`P`   perturbations of a step
`N`   draws of a continued branch
`C`   candidate answers of a question
`A`   tokens of a candidate answer, padded
`S`   prompt tokens, padded
`T`   response tokens, padded
`V`   vocabulary
`L`   layers;  `K` key/value heads;  `D` head size;  `M` model width
====  =====================================================================

Records are frozen dataclasses registered as JAX pytrees, so they pass through
`jit`, `vmap` and `lax.scan`. The shape beside a field is the shape for *one*
example at the level the record describes; outer axes are added by `vmap`.
Row 0 of the package: imports nothing but JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Array = jax.Array
Params = Any
"""A pytree of arrays: the weights of a policy."""

_Record = TypeVar("_Record", bound=type)


def record(cls: _Record) -> _Record:
    """Makes a class a frozen dataclass whose fields are the leaves of a pytree.

    Fields with metadata `{"static": True}` belong to its structure instead.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(cls)
    static = [field.name for field in fields if field.metadata.get("static")]
    data = [field.name for field in fields if field.name not in static]
    return jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=static)


@record
class Segment:
    """Keys and values of consecutive tokens: the one cache layout of the package.

    A context is a tuple of segments, oldest first: the prompt's, the
    trajectory's, a branch's. Each belongs to its own ancestor axis and is
    shared (never copied) by everything below: under `vmap` over the group the
    prompt's segment has `in_axes=None`. Positions are already in the keys
    (RoPE), so a segment is position-free, and restricting a context to a prefix
    is a smaller `mask` over the same arrays. Heads come before tokens: one head's
    keys are one matrix in memory, so decoding multiplies them where they are.
    """

    k: Array  # [L, K, S, D]  keys, rotated
    v: Array  # [L, K, S, D]  values
    mask: Array  # [S] bool     True where the token exists and may be attended to


Context = tuple[Segment, ...]


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A policy that reads one token at a time and writes it to the row's own cache.

    Segments are *split* here: `k` and `v` are tuples of L arrays [K, S, D].

    `unroll(params) -> params`
        once before a loop: the parameters as `step` wants them. `Policy.logits` takes both.
    `step(params, token[], position[], past, own, slot[]) -> (hidden[M], own)`
        reads a token after `past` and `own`: writes its keys and values at `slot` of `own`,
        whose mask already says whether the token exists, and attends to all unmasked ones.
    """

    unroll: Callable[[Params], Params]
    step: Callable[[Params, Array, Array, Context, Segment, Array], tuple[Array, Segment]]


@dataclasses.dataclass(frozen=True)
class Policy:
    """A language model as two pure functions of its parameters, for one sequence.

    `encode(params, tokens[S], positions[S], mask[S], past) -> (hidden[S, M], Segment[S])`
        reads the tokens after the context `past`. Token s attends to every
        unmasked token of `past` and to unmasked tokens s' <= s of its own. The
        returned segment holds the new keys and values (its mask is `mask`).
        Hidden states of masked positions are finite and meaningless. A sixth argument,
        `sequences[S] int32`, is given where the tokens are several sequences laid end to end:
        of its own, token s then attends to those of the same number (`policy/packing.py`).
    `logits(params, hidden[..., M]) -> float32[..., V]`
        unnormalised log-probabilities of the next token.

    Everything above the model (sampling, branches, readers, update) knows these
    two functions only; tests pass a policy whose probabilities are known.
    """

    encode: Callable[..., tuple[Array, Segment]]
    logits: Callable[[Params, Array], Array]
    vocab_size: int
    decoder: Decoder | None = None  # a faster form of `encode` for one token; None: made from it


@record
class Prompts:
    """Right-padded prompts of a batch, one row per question."""

    tokens: Array  # [B, S] int32
    mask: Array  # [B, S] bool   True on prompt tokens
    ids: Array  # [B] uint32    question ids: the only thing noise depends on


@record
class Rollout:
    """What sampling leaves behind for one trajectory."""

    tokens: Array  # [T] int32   response, incl. the stop token; padding after it
    logp: Array  # [T] f32       log-probability under the law that was sampled; 0 on padding
    entropy: Array  # [T] f32    entropy (nats) of that law; 0 on padding
    length: Array  # [] int32    number of response tokens, in [1, T]
    stopped: Array  # [] bool    ended by a stop token (not by the token limit)
    segment: Segment  # [T]      its keys and values after the prompt's segment


@record
class Spans:
    """Steps of one trajectory as half-open token ranges that partition [0, length)."""

    start: Array  # [E] int32
    end: Array  # [E] int32
    mask: Array  # [E] bool      True on the steps that exist; they come first


@record
class UpdateBatch:
    """What the update consumes: prompts once per question, responses once per trajectory.

    Branches that train are trajectories beside the sampled ones: more rows in the axis G.
    """

    prompt: Array  # [B, S] int32
    prompt_mask: Array  # [B, S] bool
    tokens: Array  # [B, G, T] int32
    mask: Array  # [B, G, T] bool      True on response tokens that train
    behaviour_logp: Array  # [B, G, T] f32   of the law that was sampled
    reference_logp: Array  # [B, G, T] f32   of the reference policy; unused when beta is 0
    advantage: Array  # [B, G, T] f32
    reward: Array | None = None  # [B, G] f32  read by a loss of whole groups (GVPO) only
    # Where computing is narrower than float32 sampling and update disagree about one policy: what
    # sampling recorded. Then `behaviour_logp` is of the update's kind, for updates after the first.
    sampler_logp: Array | None = None  # [B, G, T] f32
    fresh: Array | None = None  # [B] bool    the parameters are still those that sampled
    anchor_logp: Array | None = None  # [B, G, T] f32   of GCPO's reference; None: not read
    # Tokens that are read and do not train: what a branch went on from. None: there are none.
    context: Array | None = None  # [B, G, T] bool
    # Where responses that share rows lie (`policy/packing.py`). None: each has a row of its own.
    index: Array | None = None  # [B, R, T] int32


@record
class AnswerField:
    """How an answer is asked for and what ends it; the same for all questions of a task."""

    cues: tuple[Array, ...]  # [Q_i] int32 each, Q_i >= 1: templates that ask for the answer
    ends: Array  # [V] bool  tokens with which an answer is over
    # With this token it is over if one of `ends_after` follows: the full stop in "3." and "3.5".
    pause: Array | None = None  # [] int32
    ends_after: Array | None = None  # [V] bool


@record
class Candidates:
    """Candidate answers of one question, without what ends them.

    A row is a spelling. Equal answers point at one row, and only that row has a
    probability in the law: the sum over its spellings.
    """

    tokens: Array  # [C, A] int32
    mask: Array  # [C, A] bool
    exists: Array  # [C] bool      False on padding; at least one is True
    counted_as: Array  # [C] int32  the row that a spelling is counted with; its own, or another


@record
class TrainState:
    """Everything that an update changes."""

    params: Any
    opt_state: Any
    step: Array  # [] int32  optimizer updates so far
    average: Any = None  # float32 moving average of the parameters; None: not kept

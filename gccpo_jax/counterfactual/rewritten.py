"""Trajectories in other words or with other numbers: rewritten on the host, read on the device.

The words (or numbers) of arm p are drawn from (seed, question id, p), so that all
trajectories of a question are rewritten alike and share one question. Steps are rewritten
one by one, so what was read after a step is read after its rewrite.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.counterfactual.needed_rows import differs, filled, where_needed
from gccpo_jax.counterfactual.places import Places
from gccpo_jax.counterfactual.readout import read_scored
from gccpo_jax.policy.cache import extend, restrict
from gccpo_jax.policy.logprobs import read_prompt
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.buckets import fitting
from gccpo_jax.sampling.outcomes import step_texts
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.sampling.traces import Seen
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.types import AnswerField, Array, Candidates, Params, Policy, Segment, record

STREAMS = {"surface": (), "number": (1,)}
"""What tells the draws of one kind of rewrite from those of the other."""


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """The trajectories of B questions rewritten P times, as numpy arrays of Q = B P rows."""

    items: Sequence[Item]  # Q: the questions, each with its gold answer; row b P + p
    prompts: np.ndarray  # [Q, S] int32
    prompt_mask: np.ndarray  # [Q, S] bool
    tokens: np.ndarray  # [Q, G, T] int32  T: of `buckets.sizes` of the trajectories' limit
    length: np.ndarray  # [Q, G] int32
    ends: np.ndarray  # [Q, G, E] int32  where each macro-step ends, before the answer field
    read: np.ndarray  # [Q, G, E] bool   the macro-steps that exist, of rewrites that exist
    arms: int  # P

    @property
    def exists(self) -> np.ndarray:
        """[Q, G] bool: False where the task had no rewrite, or it is too long."""
        return self.read.any(-1)


def rewritten(
    seen: Seen, places: Places, hows: Sequence[str], arms: int, whole: bool = False
) -> Rewritten:
    """Each trajectory rewritten `arms` times in each of some ways, P = len(hows) arms.

    Args:
      hows: "surface", "number": functions of the task that rewrite.
      whole: with the answer field and the stop token; else up to the answer field.
    """
    solver, traces = seen.solver, seen.traces
    task, tokenizer = solver.task, solver.tokenizer
    (batch, group), size = traces.tokens.shape[:2], traces.limit
    ways = [(how, p) for how in hows for p in range(arms)]
    exists = to_host(places.spans.mask)
    pieces_of = _pieces(seen, places, whole)
    last = _last_steps(places)  # [B, G, E]
    rows, width = batch * len(ways), traces.prompts.tokens.shape[1]
    out = Rewritten(
        items=[item for item in traces.items for _ in ways],
        prompts=np.zeros((rows, width), np.int32),
        prompt_mask=np.zeros((rows, width), bool),
        tokens=np.zeros((rows, group, size), np.int32),
        length=np.zeros((rows, group), np.int32),
        ends=np.zeros((rows, *exists.shape[1:]), np.int32),
        read=np.zeros((rows, *exists.shape[1:]), bool),
        arms=len(ways),
    )
    out.prompt_mask[:, 0] = True  # a question that is not there is still read, then left out
    encode = functools.cache(tokenizer.encode)  # a group says the same things again and again
    for q in range(rows):
        b, (how, p) = q // len(ways), ways[q % len(ways)]
        item = traces.items[b]
        draw = functools.partial(np.random.default_rng, [*traces.seed, item.id, p, *STREAMS[how]])
        asked = [pieces_of(b, g) for g in range(group)]
        said = [[text for text in texts if text] for texts, _ in asked]
        question, lines = _of_group(task, how, item, said, draw)
        if question is None:
            continue
        prompt = tokenizer.render(task.prompt(question), task.system, task.chat)
        if len(prompt) > width:
            continue
        out.items[q] = question
        out.prompts[q, : len(prompt)] = prompt
        out.prompt_mask[q] = np.arange(width) < len(prompt)
        for g, (texts, stop) in enumerate(asked):
            if lines[g] is None:
                continue
            found = iter(lines[g])
            pieces = [encode(next(found)) if text else [] for text in texts]
            ids = [token for piece in pieces for token in piece] + stop
            if len(ids) > size:
                continue
            cuts = np.cumsum([len(piece) for piece in pieces], dtype=np.int32)
            out.tokens[q, g, : len(ids)] = ids
            out.length[q, g] = len(ids)
            out.ends[q, g] = np.where(exists[b, g], cuts[last[b, g]], 0)
            out.read[q, g] = exists[b, g]
    return dataclasses.replace(out, tokens=out.tokens[..., : fitting(size, int(out.length.max()))])


def _pieces(
    seen: Seen, places: Places, whole: bool
) -> Callable[[int, int], tuple[list[str], list[int]]]:
    """What of trajectory (b, g) is rewritten: texts per step, and the stop token or nothing.

    Steps end at the answer field, which is the last text if the `whole` is asked for.
    """
    traces, tokenizer = seen.traces, seen.solver.tokenizer
    steps, answer = jax.tree.map(to_host, places.steps), places.answer
    ends = np.minimum(steps.end, answer[..., None])
    starts = np.minimum(steps.start, ends)
    stopped = to_host(traces.rollout.stopped) if whole else None

    def pieces(b: int, g: int) -> tuple[list[str], list[int]]:
        kept, tokens = steps.mask[b, g], traces.tokens[b, g]
        texts = step_texts(tokenizer, tokens, starts[b, g][kept], ends[b, g][kept])
        if not whole:
            return texts, []
        length = int(traces.lengths[b, g])
        rest = tokens[answer[b, g] : length]
        stop = [int(tokens[length - 1])] if stopped[b, g] else []
        return [*texts, tokenizer.decode(rest, skip_special=True)], stop

    return pieces


def _of_group(
    task: Task,
    how: str,
    item: Item,
    texts: Sequence[Sequence[str]],
    draw: Callable[[], np.random.Generator],
) -> tuple[Item | None, list[list[str] | None]]:
    """The question rewritten, None without a rewrite, and with it each trajectory's steps.

    Words are chosen once for all that the group says, so a name that two siblings mention becomes
    the same one in both. Numbers follow each trajectory's own steps: one that does not take the
    question's numbers has no rewrite.
    """
    rewrite = getattr(task, how)
    if how == "surface":
        found = rewrite(item, [step for steps in texts for step in steps], draw())
        if found is None:
            return None, []
        lines = iter(found[1])
        return found[0], [[next(lines) for _ in steps] for steps in texts]
    asked = rewrite(item, [], draw())
    if asked is None:
        return None, []
    each = [rewrite(item, steps, draw()) for steps in texts]
    same = [x is not None and x[0].question == asked[0].question for x in each]
    return asked[0], [x[1] if kept else None for x, kept in zip(each, same, strict=True)]


def _last_steps(places: Places) -> np.ndarray:
    """The index [B, G, E] of the step that ends each macro-step."""
    steps, spans = places.steps, places.spans
    same = to_host(steps.end)[:, :, None] == to_host(spans.end)[..., None]
    return np.argmax(same & to_host(steps.mask)[:, :, None], axis=-1)


def read_rewritten(reader: Seen, found: Rewritten, candidates: Candidates) -> tuple[Array, Array]:
    """Answer laws [B, G, E, P, C + 1] of rewritten trajectories, and which exist [B, G, E, P].

    `candidates` [B, C, A] are the same as for the factual laws.
    """
    arms = found.arms
    of_rows = jax.tree.map(lambda x: np.repeat(x, arms, axis=0), candidates)
    laws = laws_of_rewritten(reader, found, of_rows)

    def by_question(x: Array) -> Array:
        return jnp.moveaxis(jnp.reshape(x, (-1, arms, *x.shape[1:])), 1, 3)

    return by_question(laws), by_question(jnp.asarray(found.read))


def laws_of_rewritten(reader: Seen, found: Rewritten, candidates: Candidates) -> Array:
    """Answer laws [Q, G, E, C + 1] with candidates [Q, C, A] of each row, see `variant_laws`."""
    variants = Variant(
        jnp.asarray(found.tokens),
        jnp.asarray(np.arange(found.tokens.shape[-1]) < found.length[..., None]),
        jnp.asarray(found.ends),
    )
    return variant_laws(
        reader.solver.policy,
        reader.params,
        jnp.asarray(found.prompts),
        jnp.asarray(found.prompt_mask),
        variants,
        jnp.asarray(found.read),
        reader.solver.field,
        candidates,
    )


_PIECE = 8
"""Tokens of a text that are encoded together: texts end at different places."""


@record
class Variant:
    """One trajectory in other words, token by token, with the places to read it at."""

    tokens: Array  # [T] int32
    mask: Array  # [T] bool
    ends: Array  # [E] int32   prefix lengths at which the answer law is read


@partial(jax.jit, static_argnames=("policy",))
def variant_laws(
    policy: Policy,
    params: Params,
    prompt_tokens: Array,  # [Q, S] the rewritten questions
    prompt_mask: Array,  # [Q, S] bool
    variants: Variant,  # [Q, G, T]
    read: Array,  # [Q, G, E] bool  places that exist
    field: AnswerField,
    candidates: Candidates,  # [Q, C, A]
) -> Array:
    """Answer laws [Q, G, E, C + 1] of rewritten trajectories (`surface`, `number`).

    The trajectory is encoded once and all its steps are read from that; a place that is the
    one before it is read once. Laws of places that do not exist are 0.
    """
    shape = read.shape
    texts = shape[:2]  # Q, G
    size = max(1, shape[0] * shape[1] // 4)
    encode = partial(read_prompt, policy, params)
    _, prompt, length = jax.vmap(encode, out_axes=(0, SEGMENT_AXES, 0))(prompt_tokens, prompt_mask)

    def asked(q: Array) -> Segment:
        return Segment(prompt.k[:, q], prompt.v[:, q], prompt.mask[q])

    def encode_rows(rows: Array) -> tuple[Array, Array]:
        """Keys and values [n, L, K, T, D] of variants, `_PIECE` tokens at a time."""
        q, g = jnp.unravel_index(rows, texts)
        tokens, mask = variants.tokens[q, g], variants.mask[q, g]
        missing = -mask.shape[-1] % _PIECE
        tokens, mask = (jnp.pad(x, ((0, 0), (0, missing))) for x in (tokens, mask))
        layers, _, heads, _, width = prompt.k.shape
        empty = jnp.zeros((layers, len(rows), heads, mask.shape[-1], width), prompt.k.dtype)

        def piece(n: Array, known: Segment) -> Segment:
            def one(q: Array, tokens: Array, mask: Array, known: Segment) -> Segment:
                at = n * _PIECE + jnp.arange(_PIECE)
                context = (asked(q), restrict(known, jnp.int32(0), n * _PIECE))
                return policy.encode(params, tokens[at], length[q] + at, mask[at], context)[1]

            new = jax.vmap(one, (0, 0, 0, SEGMENT_AXES), SEGMENT_AXES)(q, tokens, mask, known)
            return extend(known, new, n * _PIECE)

        longest = jnp.max(jnp.sum(mask, axis=-1))
        known = Segment(empty, empty, jnp.zeros_like(mask))
        known = jax.lax.fori_loop(0, -(-longest // _PIECE), piece, known)
        cut = lambda x: jnp.moveaxis(x[..., : variants.mask.shape[-1], :], 1, 0)  # noqa: E731
        return cut(known.k), cut(known.v)

    exists = read.any(-1).reshape(-1)
    sizes = jnp.sum(variants.mask, axis=-1).reshape(-1)
    keys, values = where_needed(encode_rows, exists, size, sizes)

    def read_rows(rows: Array) -> Array:
        def one(q: Array, g: Array, e: Array) -> Array:
            n = jnp.ravel_multi_index((q, g), texts, mode="clip")
            end = variants.ends[q, g, e]
            own = Segment(keys[n], values[n], variants.mask[q, g])
            context = (asked(q), restrict(own, jnp.int32(0), end))
            chosen = jax.tree.map(lambda x: x[q], candidates)
            return read_scored(policy, params, context, length[q] + end, field, chosen)

        return jax.vmap(one)(*jnp.unravel_index(rows, shape))

    needed = read & differs(variants.ends)
    laws = where_needed(read_rows, needed.reshape(-1), size)
    laws = jax.vmap(jax.vmap(filled))(laws.reshape(*shape, -1), needed)
    return jnp.where(read[..., None], laws, 0.0)

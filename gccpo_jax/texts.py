"""Where arrays meet text: outcomes, candidate answers, answer fields, rewritten trajectories.

Everything that needs a tokenizer or a verifier happens here, on the host, and
leaves as arrays. Functions of ids and texts only, so a resumed run repeats them.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence

import numpy as np

from gccpo_jax.distributed import divided
from gccpo_jax.readout import Candidates
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tokenizer import Tokenizer
from gccpo_jax.variants import Variant


def decode_all(tokenizer: Tokenizer, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Texts [...] (dtype object) of tokens [..., T] cut at `lengths` [...], specials left out."""
    texts = np.empty(lengths.shape, dtype=object)
    for index in np.ndindex(*lengths.shape):
        texts[index] = tokenizer.decode(tokens[index][: lengths[index]], skip_special=True)
    return texts


def outcomes(task: Task, items: Sequence[Item], texts: np.ndarray) -> np.ndarray:
    """Verified outcomes [B, ...] in [0, 1] of response texts [B, ...]; NaN: unscorable."""

    def of_question(b: int) -> np.ndarray:
        scores = np.empty(texts.shape[1:], np.float32)
        for index in np.ndindex(*scores.shape):
            score = verified(task, items[b], texts[b][index])
            scores[index] = np.nan if score is None else score
        return scores

    return divided(of_question, len(items))


def verified(task: Task, item: Item, text: str) -> float | None:
    """The outcome of one response; None where it cannot be scored, or there is no gold."""
    return None if item.answer is None else task.verify(item, text)


def answer_start(task: Task, tokenizer: Tokenizer, tokens: np.ndarray, text: str) -> int:
    """Index of the token at which the final answer's field begins.

    The field begins at the last cue, else at the last mention of the extracted
    answer; a response without an answer is read at its end. Readers stop before
    it: a reader that sees the stated answer would only repeat it.
    """
    place = text.rfind(task.cues[0].strip())
    if place < 0:
        answer = task.extract(text)
        place = text.rfind(answer) if answer else -1
    if place < 0:
        return len(tokens)
    low, high = 0, len(tokens)
    while low < high:  # first prefix whose text reaches beyond the place
        middle = (low + high) // 2
        if len(tokenizer.decode(tokens[: middle + 1], skip_special=True)) > place:
            high = middle
        else:
            low = middle + 1
    return low


def answer_starts(
    task: Task, tokenizer: Tokenizer, tokens: np.ndarray, lengths: np.ndarray, texts: np.ndarray
) -> np.ndarray:
    """`answer_start` of every trajectory, int32 [B, G]."""
    starts = np.zeros(lengths.shape, np.int32)
    for index in np.ndindex(*lengths.shape):
        own = tokens[index][: lengths[index]]
        starts[index] = answer_start(task, tokenizer, own, texts[index])
    return starts


def candidates_of(
    task: Task,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    texts: np.ndarray,
    *,
    count: int,
    max_tokens: int,
) -> tuple[Candidates, list[list[str]]]:
    """The candidate answers of each question, fixed before any intervention.

    The gold answer comes first (where it is known), then the group's distinct extracted
    answers, most frequent first (ties in order of appearance). Answers that the task
    calls the same are counted with the first of them. An answer longer than
    `max_tokens` (with the one that ends it) is no candidate.

    Returns:
      `Candidates` [B, C, A] as numpy arrays, and the answers in the same order. Where the
      gold answer is no candidate, row 0 does not exist and its answer is "".
    """
    width = max_tokens - 1  # what ends an answer is the last token
    shape = (len(items), count)
    tokens = np.zeros((*shape, width), np.int32)
    mask = np.zeros((*shape, width), bool)
    exists = np.zeros(shape, bool)
    counted_as = np.tile(np.arange(count, dtype=np.int32), (len(items), 1))
    answers: list[list[str]] = []
    for b, item in enumerate(items):
        found = collections.Counter(task.extract(text) for text in texts[b])
        ranked = [answer for answer, _ in found.most_common() if answer not in (None, item.answer)]
        kept: list[str] = []
        for answer in [item.answer or "", *ranked]:
            ids = tokenizer.encode(answer)
            fits = answer != "" and len(ids) <= width
            if len(kept) == count or (kept and not fits):
                continue
            row = len(kept)
            kept.append(answer if fits else "")
            if not fits:
                continue
            tokens[b, row, : len(ids)] = ids
            mask[b, row, : len(ids)] = True
            exists[b, row] = True
            counted_as[b, row] = first_same(task, kept)
        answers.append(kept)
    return Candidates(tokens, mask, exists, counted_as), answers


def first_same(task: Task, answers: Sequence[str]) -> int:
    """Index of the first answer that the task calls the same as the last one."""
    matches = (n for n, answer in enumerate(answers) if answer and task.same(answer, answers[-1]))
    return next(matches, len(answers) - 1)


def step_texts(
    tokenizer: Tokenizer, tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> list[str]:
    """The text of each step of one trajectory."""
    pairs = zip(starts, ends, strict=True)
    return [tokenizer.decode(tokens[a:b], skip_special=True) for a, b in pairs]


def surface_variants(
    task: Task,
    tokenizer: Tokenizer,
    items: Sequence[Item],
    tokens: np.ndarray,  # [B, G, T]
    starts: np.ndarray,  # [B, G, E] steps to rewrite one by one
    read_ends: np.ndarray,  # [B, G, E] where they are read (answer fields cut off)
    mask: np.ndarray,  # [B, G, E]
    *,
    arms: int,
    seed: Sequence[int],
    prompt_tokens: int,
) -> tuple[np.ndarray, np.ndarray, Variant, np.ndarray]:
    """Each trajectory in other words, re-tokenised, `arms` times (family: nuisance).

    The words of arm p are drawn from (seed, question id, p), so all trajectories of a
    question are rewritten alike.

    Returns:
      Prompts [B, P, S] and their masks, `Variant` arrays [B, G, P, T] with the read
      positions [B, G, P, E], and which variants exist, bool [B, G, P]: False where the
      task could not rewrite a trajectory or the result is too long.
    """
    batch, group, size = tokens.shape
    prompts = np.zeros((batch, arms, prompt_tokens), np.int32)
    prompt_mask = np.zeros((batch, arms, prompt_tokens), bool)
    prompt_mask[..., 0] = True  # an arm that does not exist is still read, then left out
    new_tokens = np.zeros((batch, group, arms, size), np.int32)
    new_mask = np.zeros((batch, group, arms, size), bool)
    ends = np.zeros((batch, group, arms, mask.shape[-1]), np.int32)
    exists = np.zeros((batch, group, arms), bool)
    encode = functools.cache(tokenizer.encode)  # a group says the same things again and again
    render = functools.cache(lambda text: tokenizer.render(text, task.system, task.chat))
    for b, g, p in np.ndindex(batch, group, arms):
        item, kept = items[b], mask[b, g]
        steps = step_texts(tokenizer, tokens[b, g], starts[b, g][kept], read_ends[b, g][kept])
        rng = np.random.default_rng([*seed, item.id, p])
        rewritten = task.surface(item, steps, rng) if task.surface else None
        if rewritten is None:
            continue
        question, lines = rewritten
        prompt = render(task.prompt(question))
        pieces = [encode(line) for line in lines]
        ids = [token for piece in pieces for token in piece]
        if len(prompt) > prompt_tokens or len(ids) > size:
            continue
        prompts[b, p, : len(prompt)] = prompt
        prompt_mask[b, p] = np.arange(prompt_tokens) < len(prompt)
        new_tokens[b, g, p, : len(ids)] = ids
        new_mask[b, g, p, : len(ids)] = True
        ends[b, g, p, : len(pieces)] = np.cumsum([len(piece) for piece in pieces])
        exists[b, g, p] = True
    return prompts, prompt_mask, Variant(new_tokens, new_mask, ends), exists

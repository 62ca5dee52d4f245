"""Search over steps at test time: a beam of prefixes of a solution, guided by their value.

    each of the w prefixes of a question gets m next steps from the policy;
    of these and of those that have ended the w of greatest value stay;
    the beam ends, and answers, when the best of them has ended.

    value      of a prefix
    logp       its log-probability
    agreement  share of N branches from its end whose answer is the one that most branches of the
               question's prefixes give: Phi of the answer that wins the vote
    phi        share of N branches that end right: Phi. It asks the verifier, hence the gold answer
               where the task has one: a bound of what a value can do, not a way to answer
    scorer     least score of a step by a scorer of steps (a process reward model)

Of equal values the likelier prefix wins. Noise is a function of (seed, question, round, place in
the beam, expansion or branch); branches of a round share theirs. Every token that the policy wrote
is counted once, and the prompt, as with a cache that is kept, and twice where a scorer reads them
too; `again` counts what is read again here, where prefixes are encoded anew in each round.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np

from gccpo_jax.evaluation.judged import Scores, least
from gccpo_jax.evaluation.votes import majority
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.opened import Model
from gccpo_jax.sampling.outcomes import verified
from gccpo_jax.sampling.questions import Questions, round_up
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.types import Array, Prompts

VALUES = ("agreement", "phi", "logp", "scorer")


@dataclasses.dataclass(frozen=True)
class Beam:
    """How wide a search is, and what guides it."""

    width: int = 4  # w
    steps: int = 4  # m, next steps of each prefix
    value: str = "agreement"  # of VALUES
    branches: int = 4  # N, of "agreement" and "phi"


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The beginning of a response."""

    tokens: tuple[int, ...] = ()
    logp: float = dataclasses.field(default=0.0, compare=False)
    over: bool = False  # ended, or at the limit


@dataclasses.dataclass(frozen=True)
class Cost:
    """Tokens per question [B]."""

    tokens: np.ndarray  # written, each once
    again: np.ndarray  # of prompts and prefixes, read once more

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.again + other.again)


Beams = Sequence[Sequence[Prefix]]
Grow = Callable[[int, Beams], tuple[Beams, Cost]]
Value = Callable[[int, Beams], tuple[Sequence[Sequence[float]], Cost]]


def search(questions: int, width: int, grow: Grow, value: Value) -> tuple[list[Prefix], Cost]:
    """The best prefix that each question's beam ends with, and what was spent.

    Args:
      grow: (round, beams) to candidates: every prefix that is not over with each of its next
        steps in its place, those that are over as they are. It must end every prefix in time.
      value: (round, candidates) to their values; a greater one is better.
    """
    beams: list[list[Prefix]] = [[Prefix()] * width for _ in range(questions)]
    spent, number = Cost(np.zeros(questions, int), np.zeros(questions, int)), 0
    while going := [n for n, beam in enumerate(beams) if not beam[0].over]:
        asked = [beams[n] if n in going else [] for n in range(questions)]
        candidates, written = grow(number, asked)
        values, read = value(number, candidates)
        for n in going:
            beams[n] = kept(candidates[n], values[n], width)
        spent, number = spent + written + read, number + 1
    return [beam[0] for beam in beams], spent


def kept(candidates: Sequence[Prefix], values: Sequence[float], width: int) -> list[Prefix]:
    """The `width` different candidates of greatest value, the best first; then the likelier.

    >>> a, b = Prefix((1,), -1.0), Prefix((2,), -2.0)
    >>> [x.tokens for x in kept([b, a, a], [0.5, 0.5, 0.5], 2)]
    [(1,), (2,)]
    """
    worth = dict(zip(candidates, values, strict=True))
    return sorted(worth, key=lambda prefix: (-worth[prefix], -prefix.logp))[:width]


@dataclasses.dataclass(frozen=True, eq=False)
class Asking:
    """What the searches of a batch of questions share."""

    model: Model
    questions: Questions
    rule: Rule
    seed: int
    max_tokens: int  # of a response
    batch: int  # responses in memory at once

    def text(self, prefix: Prefix) -> str:
        """What it says."""
        return self.model.solver.tokenizer.decode(list(prefix.tokens), skip_special=True)

    def go_on(
        self,
        rows: Sequence[tuple[int, Prefix, int]],
        number: int,
        draws: int,
        stop: Array,
    ) -> tuple[list[list[Prefix]], Cost]:
        """`draws` continuations of each row's prefix, up to a token of `stop` [V] bool.

        Rows are (question, prefix, place): their noise is a function of these, less the prefix,
        of the number and of the draw.
        """
        size = max(self.batch // draws, 1)
        found, counts = [], np.zeros((2, len(self.questions.items)), int)
        for first in range(0, len(rows), size):
            part = list(rows[first : first + size])
            longest = max(len(self.questions.tokens[n]) + len(p.tokens) for n, p, _ in part)
            prompts = self._prompts(part + part[:1] * (size - len(part)), round_up(longest))
            places = np.array([place for *_, place in part] + [0] * (size - len(part)), np.uint32)
            keys = _keys(jax.random.key(self.seed), prompts.ids, np.uint32(number), places)
            _, rollout = sample(
                self.model.solver.policy,
                self.model.params,
                prompts,
                keys,
                stop,
                group=draws,
                rule=self.rule,
                max_tokens=self.max_tokens,
            )
            tokens, logp, length = map(to_host, (rollout.tokens, rollout.logp, rollout.length))
            for row, (n, prefix, _) in enumerate(part):
                ends = np.minimum(length[row], self.max_tokens - len(prefix.tokens))
                drawn = zip(tokens[row], logp[row], ends, strict=True)
                found.append([self._longer(prefix, t[:end], p[:end]) for t, p, end in drawn])
                read = len(self.questions.tokens[n]) + len(prefix.tokens)
                counts[:, n] += [ends.sum(), read]
        return found, Cost(*counts)

    def _prompts(self, rows: Sequence[tuple[int, Prefix, int]], width: int) -> Prompts:
        items = tuple(self.questions.items[n] for n, _, _ in rows)
        tokens = tuple(self.questions.tokens[n] + prefix.tokens for n, prefix, _ in rows)
        written = dataclasses.replace(self.questions, items=items, tokens=tokens, width=width)
        return written.prompts(range(len(rows)))

    def _longer(self, prefix: Prefix, tokens: np.ndarray, logp: np.ndarray) -> Prefix:
        written = (*prefix.tokens, *tokens.tolist())
        ended = bool(self.model.solver.stop[written[-1]]) or len(written) >= self.max_tokens
        return Prefix(written, prefix.logp + float(logp.sum(dtype=np.float64)), ended)


@jax.jit
def _keys(root: Array, ids: Array, number: Array, places: Array) -> Array:
    """Keys [R] of rows of a round."""
    of_question = noise.question_keys(root, noise.EVALUATION_STEP, ids)

    def of_row(key: Array, place: Array) -> Array:
        of_search = jax.random.fold_in(key, noise.SEARCH)
        return jax.random.fold_in(jax.random.fold_in(of_search, number), place)

    return jax.vmap(of_row)(of_question, places)


def answers(asking: Asking, beam: Beam, scores: Scores | None) -> tuple[list[Prefix], Cost]:
    """A response to each question by beam search.

    Args: scores: of steps, for the value "scorer".
    """
    value = {
        "logp": _likely,
        "agreement": partial(_branched, asking, beam.branches, _agreement),
        "phi": partial(_branched, asking, beam.branches, _right),
        "scorer": partial(_scored, asking, scores),
    }[beam.value]
    found, spent = search(
        len(asking.questions.items), beam.width, partial(_grown, asking, beam.steps), value
    )
    prompts = np.array([len(row) for row in asking.questions.tokens])
    spent += Cost(prompts, -prompts)  # the first reading of a prompt is not one more
    return found, spent if beam.value != "scorer" else Cost(2 * spent.tokens, spent.again)


def _grown(asking: Asking, steps: int, number: int, beams: Beams) -> tuple[Beams, Cost]:
    solver = asking.model.solver
    rows = [
        (n, prefix, place)
        for n, beam in enumerate(beams)
        for place, prefix in enumerate(beam)
        if not prefix.over
    ]
    longer, cost = asking.go_on(rows, 2 * number, steps, solver.stop | solver.boundary)
    found = [[prefix for prefix in beam if prefix.over] for beam in beams]
    for (n, *_), drawn in zip(rows, longer, strict=True):
        found[n].extend(drawn)
    return found, cost


def _likely(number: int, candidates: Beams) -> tuple[list[list[float]], Cost]:
    nothing = np.zeros(len(candidates), int)
    return [[prefix.logp for prefix in row] for row in candidates], Cost(nothing, nothing)


def _branched(
    asking: Asking,
    draws: int,
    share: Callable[[Asking, int, list[list[str]]], list[float]],
    number: int,
    candidates: Beams,
) -> tuple[list[list[float]], Cost]:
    """Values from branches; what has ended is its own, `draws` times over."""
    rows = [(n, x, 0) for n, row in enumerate(candidates) for x in dict.fromkeys(row) if not x.over]
    longer, cost = asking.go_on(rows, 2 * number + 1, draws, asking.model.solver.stop)
    branches = {row[:2]: found for row, found in zip(rows, longer, strict=True)}
    values = []
    for n, row in enumerate(candidates):
        texts = [list(map(asking.text, branches.get((n, x), [x] * draws))) for x in row]
        values.append(share(asking, n, texts))
    return values, cost


def _right(asking: Asking, n: int, texts: list[list[str]]) -> list[float]:
    task, item = asking.model.solver.task, asking.questions.items[n]
    return [float(np.mean([verified(task, item, text) or 0.0 for text in row])) for row in texts]


def _agreement(asking: Asking, n: int, texts: list[list[str]]) -> list[float]:
    task, item = asking.model.solver.task, asking.questions.items[n]
    given = [[task.answer_of(item, text) for text in row] for row in texts]
    every = [answer for row in given for answer in row]
    won = every[majority(every, task.same)] if every else None
    agreeing = [[a is not None and won is not None and task.same(won, a) for a in x] for x in given]
    return [float(np.mean(row)) for row in agreeing]


def _scored(
    asking: Asking, scores: Scores, number: int, candidates: Beams
) -> tuple[list[list[float]], Cost]:
    items, boundary = asking.questions.items, asking.model.solver.task.boundary
    asked = [(items[n].question, asking.text(x)) for n, row in enumerate(candidates) for x in row]
    found = iter(least(scores, boundary, asked))
    nothing = np.zeros(len(candidates), int)
    return [[next(found) for _ in row] for row in candidates], Cost(nothing, nothing)

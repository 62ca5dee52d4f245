"""A chat model as a step scorer: it is asked to verify, and the law of its verdict is read.

    s_k = mean over critiques c of p(good | ask, c, conclude) / (p(good) + p(bad))

In the manner of ThinkPRM (arXiv 2504.16828): for each step the model sees the question and the
solution up to it, writes a critique (or none), and is led to a verdict whose two tokens are
compared. No critique is one pass per step; k of them are k generations per step, sampled at
temperature 1 with noise that is a function of (seed, solution, step, critique).

What it is asked is in the directory's `critic.json`, fields of `Verification`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from gccpo_jax.config.fields import build
from gccpo_jax.errors import UserError
from gccpo_jax.policy.locate import locate
from gccpo_jax.policy.model_files import read_json
from gccpo_jax.policy.step_scorer import Layout, StepScorer, open_scorer
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling.questions import round_up
from gccpo_jax.sampling.writer import WIDTHS, responses

FILE = "critic.json"


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a critic is asked."""

    ask: str = (
        "Question: {question}\n\nSolution so far:\n{solution}\n\n"
        "Check the solution step by step. Is its last step correct?"
    )
    conclude: str = "\nThe last step is"  # after the critique; the verdict's token follows
    good: str = " correct"
    bad: str = " wrong"
    critiques: int = 0  # sampled for each step; 0: the verdict at once
    max_tokens: int = 256  # of a critique
    seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Critic:
    """An opened critic; a judge `(question, steps) -> scores` for many at once."""

    scorer: StepScorer  # the model, with the verdict's tokens in its layout
    verification: Verification

    def __call__(self, question: str, steps: Sequence[str]) -> np.ndarray:
        """Scores of the steps of one solution."""
        return self.many([(question, steps)])[0]

    def many(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """Scores [steps] of each solution; NaN where the model's context is too short."""
        prompts = [
            self._prompt(question, steps[: k + 1])
            for question, steps in asked
            for k in range(len(steps))
        ]
        count = max(self.verification.critiques, 1)
        texts = self._criticised(prompts) if self.verification.critiques else prompts
        end = self.scorer.tokenizer.encode(self.verification.conclude)
        rows = [(ids + end, [len(ids + end) - 1]) for ids in texts]
        scores = np.concatenate([np.zeros(0), *(x[:, 0] for x in self.scorer.read(rows))])
        means = scores.reshape(-1, count).mean(1)
        return np.split(means, np.cumsum([len(steps) for _, steps in asked])[:-1])

    def _prompt(self, question: str, steps: Sequence[str]) -> list[int]:
        solution = "\n".join(f"{k}. {step.strip()}" for k, step in enumerate(steps, 1))
        said = self.verification.ask.format(question=question, solution=solution)
        return self.scorer.tokenizer.render(said)

    def _criticised(self, prompts: list[list[int]]) -> list[list[int]]:
        """Each prompt with each of its critiques, without the token that ends one."""
        scorer, v = self.scorer, self.verification
        room = scorer.context - v.max_tokens
        width = min(round_up(max(map(len, prompts)), WIDTHS), room)
        kept = [ids[-width:] for ids in prompts]  # what is cut is too long in any case
        of_each = {"group": v.critiques, "rule": Rule(), "max_tokens": v.max_tokens}
        written = responses(scorer, kept, width, range(len(prompts)), (v.seed, 0), **of_each)
        stops = {*scorer.tokenizer.stop_ids}
        return [
            prompt + [int(token) for token in text if token not in stops]
            for prompt, texts in zip(prompts, written, strict=True)
            for text in texts
        ]


def open_critic(path: str, mesh: jax.sharding.Mesh | None = None) -> Critic:
    """Opens the chat model of a directory as a critic.

    Raises:
      UserError: no such model, one with a head or without a chat template, or an `ask` that has
        other places than {question} and {solution}.
    """
    directory = pathlib.Path(locate(path))
    scorer, file = open_scorer(path, mesh), directory / FILE
    found = read_json(file) if file.is_file() else {}
    verification = build(Verification, found, str(file))
    if scorer.head:
        raise UserError(f"{directory}: a model with a head is no critic; use 'prm:{path}'")
    try:
        verification.ask.format(question="", solution="")
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{file}: ask has a place {error}; expected {{question}} and {{solution}} alone"
        ) from None
    if not 0 <= verification.critiques or not 0 < verification.max_tokens < scorer.context:
        raise UserError(
            f"{file}: critiques = {verification.critiques}, max_tokens = "
            f"{verification.max_tokens}: expected at least 0, and from 1 to less than the "
            f"context, {scorer.context}"
        )
    scorer.tokenizer.render("")  # refuses a tokenizer without a chat template
    layout = Layout(good=verification.good, bad=verification.bad)
    return Critic(dataclasses.replace(scorer, layout=layout), verification)

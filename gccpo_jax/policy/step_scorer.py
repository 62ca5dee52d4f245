"""Process reward models: a decoder that scores every step of a solution, one pass for all of them.

    head    softmax(MLP(h))[1]            h: hidden state at the mark after the step
            Qwen2.5-Math-PRM (`score.0`, ReLU, `score.2`), a token classifier (`score`)
    tokens  p(good) / (p(good) + p(bad))  next-token probabilities at the mark
            Math-Shepherd, VersaPRM

A score is the probability that the step is good, in [0, 1]. What stands between the steps is in
the directory's `prm.json`, fields of `Layout`; without one it follows from the tensors: those of a
head mean Qwen's layout, none Math-Shepherd's.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config.fields import build
from gccpo_jax.errors import UserError
from gccpo_jax.policy import model, weights
from gccpo_jax.policy.fit_head import scores
from gccpo_jax.policy.length_bias import debiased
from gccpo_jax.policy.locate import locate
from gccpo_jax.policy.model_files import read_json
from gccpo_jax.policy.tokenizer import Tokenizer, check_vocab, load_tokenizer
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.types import Array, Params, Policy

FILE = "prm.json"
_ROWS = 16  # solutions read at once
_WIDTHS = 64  # they are padded to a multiple of this, so that few programs compile
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a solution is written for the model, and where its verdict on a step stands."""

    mark: str = "<extra_0>"  # after each step; its last token is read
    between: str = ""  # after the mark of a step that another follows
    chat: bool = True  # the question through the chat template, else plainly
    opened: str = " "  # after a plain question
    system: str = ""  # text of the system in the template
    good: str = " +"  # whose last token speaks for the step; without a head only
    bad: str = " -"
    # What a word of a step is paid, and the words of a usual one: taken off (length_bias.py).
    length_slope: float = 0.0
    usual_length: float = 0.0


QWEN = Layout(system="Please reason step by step, and put your final answer within \\boxed{}.")
SHEPHERD = Layout(mark=" \u043a\u0438", between="\n", chat=False)

Head = tuple[tuple[Array, Array], ...]
"""Weights [outputs, inputs] and biases of a network with a ReLU between its layers; () is none."""


Written = tuple[list[int], list[int]]
"""Token ids, and the places among them that are read."""


@dataclasses.dataclass(frozen=True, eq=False)
class StepScorer:
    """An opened process reward model; a judge `(question, steps) -> scores` for many at once."""

    policy: Policy
    params: Params
    head: Head
    tokenizer: Tokenizer
    layout: Layout
    context: int  # tokens

    def __call__(self, question: str, steps: Sequence[str]) -> np.ndarray:
        """Scores of the steps of one solution."""
        return self.many([(question, steps)])[0]

    def many(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """Scores [steps] of each solution; NaN, and a warning, where it is longer than the context.

        All processes ask the same.
        """
        texts = [self._written(question, steps) for question, steps in asked]
        found = [rows[:, 0] for rows in self.read(texts)]
        slope, usual = self.layout.length_slope, self.layout.usual_length
        if not slope:
            return found
        pairs = zip(found, asked, strict=True)
        return [debiased(x, steps, slope=slope, usual=usual) for x, (_, steps) in pairs]

    def states(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """Hidden states [steps, M] at the marks of each solution, NaN where it is too long."""
        width = self.params["embed"].shape[1]
        texts = [self._written(question, steps) for question, steps in asked]
        return self._each(texts, width, lambda *x: _states(self.policy, self.params, *x))

    def read(self, texts: Sequence[Written]) -> list[np.ndarray]:
        """Scores [places, 1] at the places of token ids; NaN where they exceed the context."""
        verdicts = self._verdicts

        def scored(*rows: Array) -> Array:
            return _scores(self.policy, self.params, self.head, *rows, verdicts)[..., None]

        return self._each(texts, 1, scored)

    def _each(
        self,
        texts: Sequence[Written],
        size: int,
        read: Callable[[Array, Array, Array], Array],
    ) -> list[np.ndarray]:
        """Numbers [places, size] that `read` makes of each text."""
        found = [np.full((len(at), size), np.nan, np.float32) for _, at in texts]
        fits = [n for n, (ids, at) in enumerate(texts) if at and len(ids) <= self.context]
        if left := sum(bool(at) for _, at in texts) - len(fits):
            _log.warning("%d solutions exceed the %d tokens of the PRM", left, self.context)
        fits.sort(key=lambda n: len(texts[n][0]))
        for first in range(0, len(fits), _ROWS):
            rows = fits[first : first + _ROWS]
            numbers = to_host(read(*_padded([texts[n] for n in rows], self.context)))
            for n, row in zip(rows, numbers, strict=False):
                found[n] = row[: len(found[n])]
        return found

    @property
    def _verdicts(self) -> tuple[int, int]:
        """Ids of the tokens for and against a step."""
        ends = [self.tokenizer.encode(text)[-1] for text in (self.layout.good, self.layout.bad)]
        return ends[0], ends[1]

    def _written(self, question: str, steps: Sequence[str]) -> Written:
        """Ids of a solution, and the places where its steps are judged."""
        mark, between = self.layout.mark, self.layout.between
        if mark.strip():
            plain = [step.replace(mark.strip(), "").strip() for step in steps]
        else:  # a mark of spaces or line ends: none inside a step
            plain = [" ".join(step.split()) for step in steps]
        text = between.join(step + mark for step in plain)
        tokenizer = self.tokenizer
        if self.layout.chat:
            opened = tokenizer.template.render(tokenizer.backend, question, self.layout.system)
            ids = tokenizer.backend.encode(opened + text, add_special_tokens=False)
        else:
            ids = tokenizer.backend.encode(question + self.layout.opened + text)
        wanted = tokenizer.encode(mark)[-1]
        at = [place for place, token in enumerate(ids) if token == wanted]
        if len(at) < len(steps):
            raise UserError(
                f"a solution of {len(steps)} steps has {len(at)} marks {mark!r} for the PRM's "
                f"tokenizer; set `mark` in {FILE} to a text that is a token of its own"
            )
        return ids, at[len(at) - len(steps) :]  # what stands before is the question's


def _padded(texts: list[Written], most: int) -> list[Array]:
    """Tokens [R, W], their mask and the places [R, E] of the marks, of a few sizes."""
    width, steps = (max(len(text[part]) for text in texts) for part in (0, 1))
    width, steps = min(-(-width // _WIDTHS) * _WIDTHS, most), -(-steps // 8) * 8
    tokens = np.zeros((_ROWS, width), np.int32)
    mask, at = np.zeros(tokens.shape, bool), np.zeros((_ROWS, steps), np.int32)
    mask[:, 0] = True  # of rows without a text
    for row, (ids, places) in enumerate(texts):
        tokens[row, : len(ids)], mask[row, : len(ids)] = ids, True
        at[row, : len(places)] = places
    return [jnp.asarray(x) for x in (tokens, mask, at)]


def open_scorer(path: str, mesh: jax.sharding.Mesh | None = None) -> StepScorer:
    """Opens the process reward model of a directory (or of whatever `locate` understands).

    Args: mesh: its parameters lie there as a policy's do; None: on the default device.
    Raises:
      UserError: no such model, a layout that does not fit it, or marks that are no token.
    """
    directory = locate(path)
    placed = partial(model.shardings, mesh) if mesh else None
    arch, params, tensors = weights.load_headed(directory, "score.", placed)
    tokenizer = load_tokenizer(directory)
    check_vocab(arch, tokenizer)
    head = _head(directory, tensors)
    file = directory / FILE
    layout = QWEN if head else SHEPHERD
    if file.is_file():
        layout = build(Layout, dataclasses.asdict(layout) | read_json(file), str(file))
    for name in ("mark", "good", "bad"):
        if not tokenizer.encode(getattr(layout, name)):
            raise UserError(f"{file}: {name} = {getattr(layout, name)!r}: expected a text")
    policy = model.make_policy(arch, mesh=mesh)
    return StepScorer(policy, params, head, tokenizer, layout, arch.max_positions)


def _head(directory: Any, tensors: dict[str, np.ndarray]) -> Head:
    """The layers among the tensors `score.*`, in their order; they end in two classes."""
    names = sorted(name.removesuffix("weight") for name in tensors if name.endswith("weight"))
    layers = []
    for name in names:
        matrix = np.asarray(tensors[f"{name}weight"], np.float32)
        bias = np.asarray(tensors.get(f"{name}bias", np.zeros(len(matrix))), np.float32)
        layers.append((jnp.asarray(matrix), jnp.asarray(bias)))
    if layers and layers[-1][0].shape[0] != 2:
        raise UserError(
            f"{directory}: its head has {layers[-1][0].shape[0]} outputs; expected two classes, "
            "bad and good"
        )
    return tuple(layers)


@partial(jax.jit, static_argnums=(0, 6))
def _scores(
    policy: Policy,
    params: Params,
    head: Head,
    tokens: Array,  # [R, W]
    mask: Array,  # [R, W] bool
    at: Array,  # [R, E]  places of the marks
    verdicts: tuple[int, int],
) -> Array:
    """Probabilities [R, E] that the steps are good."""
    hidden = _states(policy, params, tokens, mask, at)
    if not head:
        logits = policy.logits(params, hidden)[..., jnp.asarray(verdicts[::-1])]
        return jax.nn.softmax(logits)[..., 1]
    return jax.nn.softmax(scores(head, hidden))[..., 1]


@partial(jax.jit, static_argnums=0)
def _states(policy: Policy, params: Params, tokens: Array, mask: Array, at: Array) -> Array:
    """Hidden states [R, E, M] at the marks, float32."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    read = jax.vmap(lambda *row: policy.encode(params, *row, ())[0])
    hidden = jnp.take_along_axis(read(tokens, positions, mask), at[..., None], axis=1)
    return hidden.astype(jnp.float32)

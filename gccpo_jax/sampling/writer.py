"""A frozen chat model that writes when it is asked: a function of the words and of two numbers."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.policy.step_scorer import StepScorer, open_scorer
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.questions import round_up, token_rows
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.tasks.paraphrase import Writer
from gccpo_jax.types import Prompts

WIDTHS = 64  # prompts are padded to a multiple of this, so that few programs compile


def open_writer(
    path: str, mesh: jax.sharding.Mesh | None = None, *, temperature: float = 0.7, tokens: int = 160
) -> Writer:
    """Opens the chat model of a directory as a writer.

    What it writes is sampled with the noise of (question's id, number of the wording), and is ""
    where the prompt leaves no room for `tokens` more.

    Raises:
      UserError: no such model, one that scores steps, or one without a chat template.
    """
    reader = open_scorer(path, mesh)
    if reader.head:
        raise UserError(f"{path}: a model with a head writes nothing; name a chat model")
    tokenizer = reader.tokenizer
    tokenizer.render("")  # refuses a tokenizer without a chat template

    def write(asked: str, number: int, place: int) -> str:
        ids = tokenizer.render(asked)
        width = round_up(len(ids), WIDTHS)
        if width + tokens > reader.context:
            return ""
        asked_once = {"group": 1, "rule": Rule(temperature), "max_tokens": tokens}
        [[said]] = responses(reader, [ids], width, [number], (0, place), **asked_once)
        return tokenizer.decode(said, skip_special=True)

    return write


def responses(
    reader: StepScorer,
    prompts: Sequence[Sequence[int]],
    width: int,
    ids: Sequence[int],
    seed: tuple[int, int],
    *,
    group: int,
    rule: Rule,
    max_tokens: int,
) -> list[list[np.ndarray]]:
    """Token ids of `group` responses to each prompt, with the one that ends them.

    Args:
      width: prompts are padded to it. ids, seed: the noise is that of (*seed, id).
    """
    tokens, mask = map(jnp.asarray, token_rows(prompts, width))
    numbers = jnp.asarray(ids, jnp.uint32)
    stops = jnp.asarray(list(reader.tokenizer.stop_ids))
    _, written = sample(
        reader.policy,
        reader.params,
        Prompts(tokens, mask, numbers),
        noise.question_keys(jax.random.key(seed[0]), seed[1], numbers),
        jnp.zeros(reader.policy.vocab_size, bool).at[stops].set(True),
        group=group,
        rule=rule,
        max_tokens=max_tokens,
    )
    pairs = zip(to_host(written.tokens), to_host(written.length), strict=True)
    return [[row[:size] for row, size in zip(*pair, strict=True)] for pair in pairs]

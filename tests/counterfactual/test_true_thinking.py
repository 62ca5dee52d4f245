"""The true-thinking score against a float64 enumeration of the four texts of each step."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual.places import Asked
from gccpo_jax.counterfactual.true_thinking import true_thinking_scores
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.types import Spans
from tests.helpers import oracles, toy
from tests.helpers.answers import ANSWERS, CUE, candidates, field

ROWS, G, T = [0, 1, 2], 2, 8
STEPS = ((0, 2), (2, 4), (4, 4), (4, 7))  # of every trajectory; the third has no token to read
DIGITS = types.SimpleNamespace(
    decode=lambda ids, skip_special: "".join(map(str, ids)), encode=lambda text: [*map(int, text)]
)


def changed(text, rng=None):
    """A longer step in place of one that holds a 4; steps without one have no number."""
    return text.replace("4", "52") if "4" in text else None


def p_right(text):
    known = lambda text: oracles.law(toy.next_logits(text))  # noqa: E731
    return oracles.scored_law(known, [*text, *CUE], ANSWERS)[0]


def oracle(prompt, tokens):
    """TTS of each step of one trajectory, from its texts."""
    found, c, other = [], [*prompt], [*prompt]
    for start, end in STEPS:
        step = tokens[start:end]
        new = changed("".join(map(str, step)))
        new = None if new is None else [*map(int, new)]
        pairs = [(base + step, base + (new or [])) for base in (c, other)]
        found.append(sum(abs(p_right(a) - p_right(b)) for a, b in pairs) / 2)
        c, other = c + step, other + (new or step)
    return found


def caches(tokens):
    """Segments of prompts and responses as sampling leaves them."""

    def encode(tokens, positions, mask):
        return toy.POLICY.encode(toy.PARAMS, tokens, positions, mask, ())[1]

    prompts = toy.prompts(ROWS)
    of_prompts = jax.vmap(encode, in_axes=(0, None, 0), out_axes=SEGMENT_AXES)
    prompt = of_prompts(prompts.tokens, jnp.arange(4), prompts.mask)
    length = jnp.array([[len(toy.PROMPTS[row])] * G for row in ROWS])

    def response(tokens, length):
        return encode(tokens, length + jnp.arange(T), jnp.ones(T, bool))

    of_batch = jax.vmap(jax.vmap(response, out_axes=SEGMENT_AXES), out_axes=SEGMENT_AXES)
    return prompt, of_batch(jnp.asarray(tokens), length)


def test_true_thinking_equals_the_enumeration_of_its_texts():
    tokens = np.random.default_rng(0).integers(1, 6, (len(ROWS), G, T)).astype(np.int32)
    start, end = (
        jnp.broadcast_to(jnp.array([step[n] for step in STEPS]), (len(ROWS), G, len(STEPS)))
        for n in (0, 1)
    )
    spans = Spans(start, end, jnp.ones(start.shape, bool))
    chosen = jax.tree.map(lambda x: jnp.stack([x] * len(ROWS)), candidates(ANSWERS))
    chosen = dataclasses.replace(chosen, exists=chosen.exists.at[-1, 0].set(False))
    seen = types.SimpleNamespace(
        solver=types.SimpleNamespace(
            policy=toy.POLICY,
            field=field(),
            tokenizer=DIGITS,
            task=types.SimpleNamespace(corrupt=changed),
        ),
        params=toy.PARAMS,
        cache=caches(tokens),
        traces=types.SimpleNamespace(
            tokens=tokens, items=[types.SimpleNamespace(id=n) for n in ROWS], seed=(0, 0)
        ),
    )
    texts = [(toy.PROMPTS[b], tokens[b, g].tolist()) for b in range(len(ROWS)) for g in range(G)]
    shape = (len(ROWS), G, len(STEPS))
    factual = np.reshape([[p_right(q + own[:end]) for _, end in STEPS] for q, own in texts], shape)
    before = np.reshape([p_right(q) for q, _ in texts], shape[:2])
    places = types.SimpleNamespace(spans=spans, read_spans=spans)
    sections = (CounterfactualConfig(), SegmentationConfig())
    asked = Asked(seen, seen, places, chosen, *sections, 9, factual[..., None], None)
    found = true_thinking_scores(asked, before[..., None])
    wanted = np.reshape([oracle(*text) for text in texts], shape)
    np.testing.assert_allclose(found[:-1], wanted[:-1], atol=1e-6)
    assert np.isnan(found[-1]).all(), "its gold answer is no candidate"
    assert np.ptp(wanted) > 0.02 and (found[:-1, :, 2] == 0).all()

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import reward
from gccpo_jax.counterfactual.answer_laws import latent_laws, site_laws
from gccpo_jax.counterfactual.cache_edits import latent, latent_noise_at
from gccpo_jax.counterfactual.rewritten import Variant, variant_laws
from gccpo_jax.counterfactual.step_edits import identity, step_tokens_of
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.sampling.sites import replaced, step_log_likelihood
from gccpo_jax.types import Segment, Spans
from tests.helpers import oracles, toy
from tests.helpers.answers import ANSWERS, CUE, candidates, field

ROWS, G, T, E, ARMS = [0, 2], 2, 8, 3, 2
ENDS = np.array([[[2, 5, 8], [3, 4, 7]], [[1, 6, 6], [4, 6, 8]]])  # [B, G, E]; one has 2 steps
EXISTS = np.array([[[1, 1, 1], [1, 1, 1]], [[1, 1, 0], [1, 1, 1]]], bool)
STARTS = np.where(EXISTS, np.concatenate([np.zeros((2, G, 1), int), ENDS[..., :-1]], -1), ENDS)
TOKENS = np.random.default_rng(3).integers(1, toy.V, (2, G, T))
KEYS = noise.question_keys(jax.random.key(1), 0, toy.prompts(ROWS).ids)
CANDIDATES = jax.tree.map(lambda x: jnp.stack([x, x]), candidates(ANSWERS))


def encode(tokens, positions, mask, past=()):
    return toy.POLICY.encode(toy.PARAMS, tokens, positions, mask, past)[1]


@pytest.fixture(scope="module")
def caches() -> tuple[Segment, Segment]:
    prompts = toy.prompts(ROWS)
    at = jnp.arange(4)
    prompt = jax.vmap(lambda t, m: encode(t, at, m), out_axes=SEGMENT_AXES)(
        prompts.tokens, prompts.mask
    )
    length = jnp.array([[len(toy.PROMPTS[row])] * G for row in ROWS])
    mask = jnp.asarray(np.arange(T) < ENDS.max(-1, keepdims=True))

    def response(tokens, length, mask):
        return encode(tokens, length + jnp.arange(T), mask)

    of_batch = jax.vmap(jax.vmap(response, out_axes=SEGMENT_AXES), out_axes=SEGMENT_AXES)
    return prompt, of_batch(jnp.asarray(TOKENS), length, mask)


def laws(prompt, segment, sigma):
    return latent_laws(
        toy.POLICY,
        toy.PARAMS,
        prompt,
        segment,
        Spans(jnp.asarray(STARTS), jnp.asarray(ENDS), jnp.asarray(EXISTS)),
        KEYS,
        field(),
        CANDIDATES,
        jnp.float32(sigma),
        arms=ARMS,
    )


def known(text):
    return oracles.law(toy.next_logits(text))


def test_factual_laws_are_those_of_the_prefixes(caches):
    factual, _ = laws(*caches, 0.5)
    assert factual.shape == (2, G, E, len(ANSWERS) + 1)
    for b, g, k in np.ndindex(2, G, E):
        text = [*toy.PROMPTS[ROWS[b]], *TOKENS[b, g, : ENDS[b, g, k]].tolist(), *CUE]
        np.testing.assert_allclose(
            factual[b, g, k], oracles.scored_law(known, text, ANSWERS), atol=1e-6
        )


def test_the_placebo_is_exactly_robust(caches):
    factual, perturbed = laws(*caches, 0.0)
    assert perturbed.shape == (2, G, E, ARMS, len(ANSWERS) + 1)
    for m in range(ARMS):
        np.testing.assert_array_equal(perturbed[:, :, :, m], factual)
    score, _ = reward.robustness(factual, perturbed, jnp.ones((2, G, E, ARMS), bool))
    np.testing.assert_array_equal(score, np.ones((2, G, E)))


def test_perturbations_move_the_law_more_when_they_are_larger(caches):
    usable = jnp.ones((2, G, E, ARMS), bool)
    scores = []
    for sigma in (0.1, 1.0):
        factual, perturbed = laws(*caches, sigma)
        assert not np.any((perturbed[:, :, :, 0] == perturbed[:, :, :, 1]).all(-1)[EXISTS])
        scores.append(np.asarray(reward.robustness(factual, perturbed, usable)[0])[EXISTS])
    assert (scores[0] < 1).mean() > 0.8, "the nearest laws may round to the same"
    assert scores[1].mean() < scores[0].mean()


def test_a_perturbed_law_is_that_of_the_edited_step_alone(caches):
    """Recomputed from the edited cache by hand: what the tokens add to the logits."""
    prompt, segment = caches
    _, perturbed = laws(prompt, segment, 0.7)
    b, g, k, m = 1, 1, 1, 1
    row = Segment(segment.k[:, b, g], segment.v[:, b, g], segment.mask[b, g])
    key = KEYS[b]
    for part in (noise.LATENT, g, m):
        key = jax.random.fold_in(key, part)
    start, end = STARTS[b, g, k], ENDS[b, g, k]
    span = (jnp.arange(T) >= start) & (jnp.arange(T) < end)
    shape = (2, *row.k.shape[:2], row.k.shape[-1])
    noises = jnp.stack([latent_noise_at(key, t, shape) for t in range(T)], axis=3)
    edited = latent(row, span, 0.7, noises)
    change = np.asarray(edited.k * edited.v - row.k * row.v, np.float64)[:, :, :end].sum((0, 1, 2))
    text = [*toy.PROMPTS[ROWS[b]], *TOKENS[b, g, :end].tolist(), *CUE]
    expected = oracles.scored_law(
        lambda text: oracles.law(toy.next_logits(text) + change), text, ANSWERS
    )
    assert np.abs(change).max() > 0.1
    np.testing.assert_allclose(perturbed[b, g, k, m], expected, atol=1e-5)


@pytest.mark.parametrize("later", [1, 2])
def test_intervening_on_a_later_step_changes_nothing_before_it(caches, later):
    prompt, segment = caches
    before = laws(prompt, segment, 0.5)
    span = (np.arange(T) >= STARTS[:, :, later, None]) & (np.arange(T) < ENDS[:, :, later, None])
    moved = jnp.where(span[None, :, :, None, :, None], -3 * segment.v + 1, segment.v)
    after = laws(prompt, Segment(segment.k, moved, segment.mask), 0.5)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[:, :, :later], old[:, :, :later])
        changed = np.any(np.asarray(new != old)[:, :, later:], axis=-1)
        assert changed[EXISTS[:, :, later:]].all()


def test_variants_are_read_like_any_other_text(caches):
    """The same in the same words, and another question and other steps."""
    other = [5, 2, 4]
    prompts = toy.prompts(ROWS, width=5)

    def read(tokens, mask, steps, ends):
        exists = np.arange(T) < ends.max(-1, keepdims=True)
        variants = Variant(jnp.asarray(steps), jnp.asarray(exists), jnp.asarray(ends))
        where = np.ones((2, G, E), bool)
        given = (tokens, mask, variants, where, field(), CANDIDATES)
        return variant_laws(toy.POLICY, toy.PARAMS, *given)

    same = read(prompts.tokens, prompts.mask, TOKENS, ENDS)
    assert same.shape == (2, G, E, len(ANSWERS) + 1)
    np.testing.assert_allclose(same, laws(*caches, 0.5)[0], atol=1e-6)
    steps, ends = TOKENS[:, :, ::-1], np.maximum(ENDS - 1, 1)
    padded = np.tile(np.pad(other, (0, 2)), (2, 1))
    got = read(padded, np.tile(np.arange(5) < 3, (2, 1)), steps, ends)
    for b, g, k in np.ndindex(2, G, E):
        text = [*other, *steps[b, g, : ends[b, g, k]].tolist(), *CUE]
        expected = oracles.scored_law(known, text, ANSWERS)
        np.testing.assert_allclose(got[b, g, k], expected, atol=1e-6)


SPANS = Spans(jnp.asarray(STARTS), jnp.asarray(ENDS), jnp.asarray(EXISTS))
OTHER = [4, 4, 3, 5]  # a step of another length


def edits_of(placebo=0):
    """Sites [B, G, E, 3]: the step itself, a placebo of it, and another step."""
    own = jax.vmap(jax.vmap(lambda t, s: identity(t, s, 8)))(jnp.asarray(TOKENS), SPANS)
    other = jnp.broadcast_to(jnp.array([*OTHER, 0, 0, 0, 0]), own.tokens.shape)
    tokens = jnp.concatenate([own.tokens, own.tokens, other], axis=3)
    length = jnp.concatenate([own.length, own.length, jnp.full_like(own.length, 4)], axis=3)
    usable = jnp.broadcast_to(own.usable, length.shape)
    return jax.vmap(jax.vmap(replaced))(SPANS, tokens, length, usable)


def read_sites(prompt, segment, sites):
    return np.asarray(
        site_laws(toy.POLICY, toy.PARAMS, prompt, segment, sites, field(), CANDIDATES)
    )


def test_a_replaced_step_is_read_like_any_other_text(caches):
    got = read_sites(*caches, edits_of())
    for b, g, k in np.argwhere(EXISTS):
        prefix = [*toy.PROMPTS[ROWS[b]], *TOKENS[b, g, : STARTS[b, g, k]].tolist()]
        own = TOKENS[b, g, STARTS[b, g, k] : ENDS[b, g, k]].tolist()
        for arm, step in enumerate([own, own, OTHER]):
            expected = oracles.scored_law(known, [*prefix, *step, *CUE], ANSWERS)
            np.testing.assert_allclose(got[b, g, k, arm], expected, atol=1e-6)


def test_the_step_itself_in_its_place_is_an_exact_placebo(caches):
    """T1 for replaced tokens: R is 1 and D^cf is 0, bit by bit."""
    got = read_sites(*caches, edits_of())
    np.testing.assert_array_equal(got[..., 0, :][EXISTS], got[..., 1, :][EXISTS])
    assert not np.any((got[..., 0, :] == got[..., 2, :]).all(-1)[EXISTS])


@pytest.mark.parametrize("later", [1, 2])
def test_replacing_a_later_step_changes_nothing_before_it(caches, later):
    """T3: what is read at a step does not see the tokens that come after it."""
    prompt, segment = caches
    sites = edits_of()
    before = read_sites(prompt, segment, sites)
    span = np.arange(T) >= STARTS[:, :, later, None]
    moved = jnp.where(span[None, :, :, None, :, None], -3 * segment.v + 1, segment.v)
    after = read_sites(prompt, Segment(segment.k, moved, segment.mask), sites)
    np.testing.assert_array_equal(after[:, :, : later + 1], before[:, :, : later + 1])
    if later + 1 < E:
        changed = (after != before).any(-1)[:, :, later + 1 :]
        assert changed[EXISTS[:, :, later + 1 :]].all()


def test_the_likelihood_of_a_replaced_step(caches):
    prompt, segment = caches
    prompts = toy.prompts(ROWS)
    got = step_log_likelihood(
        toy.POLICY, toy.PARAMS, prompts.tokens, prompt, jnp.asarray(TOKENS), segment, edits_of(),
        rule=Rule(),
    )  # fmt: skip
    for b, g, k in np.argwhere(EXISTS):
        text = [*toy.PROMPTS[ROWS[b]], *TOKENS[b, g, : STARTS[b, g, k]].tolist()]
        own = TOKENS[b, g, STARTS[b, g, k] : ENDS[b, g, k]].tolist()
        for arm, step in enumerate([own, own, OTHER]):
            logs = [np.log(known([*text, *step[:n]])[x]) for n, x in enumerate(step)]
            assert got[b, g, k, arm] == pytest.approx(np.mean(logs), abs=1e-5)


def test_the_steps_of_a_group_as_tokens():
    tokens, length = step_tokens_of(jnp.asarray(TOKENS[0]), jax.tree.map(lambda x: x[0], SPANS), 8)
    for g, k in np.argwhere(EXISTS[0]):
        own = TOKENS[0, g, STARTS[0, g, k] : ENDS[0, g, k]]
        assert length[g, k] == len(own)
        np.testing.assert_array_equal(tokens[g, k, : len(own)], own)

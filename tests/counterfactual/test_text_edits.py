"""Interventions that replace tokens: what they return, and what they refuse."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax import reward
from gccpo_jax.counterfactual import step_edits, text_edits
from gccpo_jax.counterfactual.cache_edits import norm_energy
from gccpo_jax.counterfactual.step_edits import delete, identity, plausible, swap
from gccpo_jax.reward.arms import Edits, Family
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.sites import replaced
from gccpo_jax.sampling.traces import encode_responses
from gccpo_jax.tasks import bare_task
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.rewrites import corrupt
from gccpo_jax.types import Segment, Spans
from tests.helpers import toy
from tests.helpers.rollouts import PLAIN, ROOT, draw

TOKENS = np.array([[1, 2, 3, 4, 5, 6, 0, 0], [1, 2, 9, 9, 9, 5, 0, 0], [1, 2, 3, 8, 8, 0, 0, 0]])
STARTS = np.array([[0, 3, 6], [0, 2, 6], [0, 3, 5]])
ENDS = np.array([[3, 6, 6], [2, 6, 6], [3, 5, 5]])
MASK = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0]], bool)
SPANS = Spans(*map(jnp.asarray, (STARTS, ENDS, MASK)))
OWN = jax.tree.map(lambda x: x[0], SPANS)


def test_identity_is_the_steps_own_tokens():
    own = identity(jnp.asarray(TOKENS[0]), OWN, 8)
    assert own.family is Family.NULL and own.tokens.shape == (3, 1, 8)
    assert own.tokens[0, 0, :3].tolist() == [1, 2, 3] and own.tokens[1, 0, :3].tolist() == [4, 5, 6]
    assert own.length[:, 0].tolist() == [3, 3, 0] and own.usable[:, 0].tolist() == [
        True,
        True,
        False,
    ]
    assert not own.tokens[:, :, 3:].any()


def test_swap_takes_another_step_of_the_same_place_from_a_sibling():
    """Step 0 of sibling 2 is the same text: no swap. Step 1 comes from either, by key."""
    seen = set()
    for seed in range(12):
        found = swap(jax.random.key(seed), jnp.asarray(TOKENS), SPANS, jnp.int32(0), 8, 2)
        assert found.family is Family.CONTENT
        assert not found.usable[2].any(), "a step that does not exist"
        for p in range(2):
            assert found.usable[0, p] and found.tokens[0, p, :2].tolist() == [1, 2]
            assert found.length[0, p] == 2, "not the sibling with the same text"
            seen.add(tuple(found.tokens[1, p, : found.length[1, p]].tolist()))
    assert seen == {(9, 9, 9, 5), (8, 8)}
    alone = swap(jax.random.key(0), jnp.asarray(TOKENS[:1]), jax.tree.map(lambda x: x[:1], SPANS),
                 jnp.int32(0), 8, 2)  # fmt: skip
    assert not alone.usable.any()


def test_only_plausible_swaps_are_kept():
    found = swap(jax.random.key(1), jnp.asarray(TOKENS), SPANS, jnp.int32(0), 8, 2)
    there = jnp.array([[-1.0, -3.1], [-9.0, -1.9], [0.0, 0.0]])
    kept = plausible(found, there, jnp.array([-2.0, -2.5, 0.0]), 1.0)
    assert kept.usable.tolist() == [[True, False], [False, True], [False, False]]
    assert kept.family is Family.CONTENT


def test_deletion_is_the_law_one_step_earlier():
    before, laws = jnp.array([0.2, 0.8]), jnp.array([[0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    arms = delete(before, laws, jnp.array([True, True, False]))
    assert arms.family is Family.CONTENT
    np.testing.assert_array_equal(arms.laws[:, 0], jnp.stack([before, laws[0], laws[1]]))
    np.testing.assert_array_equal(arms.factual[:, 0], laws)
    assert arms.usable[:, 0].tolist() == [True, True, False]
    S, _ = reward.sensitivity(arms.factual, arms.laws, arms.usable)
    assert float(S[1]) == pytest.approx(float(reward.jsd(laws[1], laws[0])))


def test_sites_of_replaced_steps_keep_the_prefix_and_go_on_behind_the_factual_step():
    own = identity(jnp.asarray(TOKENS[0]), OWN, 8)
    longer = Edits(own.tokens, jnp.full_like(own.length, 5), own.usable, Family.CONTENT)
    sites = replaced(OWN, longer.tokens, longer.length, longer.usable)
    assert sites.keep[:, 0].tolist() == [0, 3, 6] and sites.tape[:2, 0].tolist() == [3, 6]
    assert sites.exists[:, 0].tolist() == [True, True, False]


class Letters:
    """A tokenizer of single characters."""

    def encode(self, text):
        return [ord(c) for c in text]

    def decode(self, ids, skip_special=True):
        return "".join(chr(i) for i in ids if i)


@pytest.mark.parametrize(
    "step, stated",
    [
        ("Ana 3 + 4 = 7 pens", "7"),
        ("so it costs $1,200.00.", "1200"),
        ("so it is 1/2", "1/2"),
        ("at 10:30", "at 10:30"),
        ("3 cm^2", "3"),
    ],
)
def test_a_claim_is_a_whole_number(step, stated):
    assert text_edits.claim(step) == stated


def arms_of(texts, width=16):
    """Edits [1, 1, 1, P, W] of one step."""
    lists = {(0, 0, 0, p): Letters().encode(text) for p, text in enumerate(texts)}
    return text_edits.from_lists((1, 1, 1, len(texts)), lists, Family.BASELINE)


@pytest.mark.parametrize(
    "own, resampled, kept",
    [
        ("so 3 + 4 = 7", ["7 it is", "so 4 + 3 = 7", "so 8"], [1, 1, 0]),
        ("so 3 + 4 = 7", ["so 3 + 4 = 7", "so 3 + 4 = 7", "= 7.0"], [1, 1, 1]),
        ("so 3 + 4 = 7", ["so 3 + 4 = 7", "so 3 + 4 = 7", "so 9"], [0, 0, 0]),  # one distinct text
        ("let us go on", ["Let us  go on", "let us go on ", "stop"], [1, 1, 0]),
    ],
)
def test_equivalents_state_the_same_and_are_at_least_two(own, resampled, kept):
    found = text_edits.equivalent(Letters(), arms_of(resampled), arms_of([own]))
    assert found.family is Family.NUISANCE
    assert found.usable[0, 0, 0].tolist() == [bool(x) for x in kept]
    assert text_edits.kept_fraction(found, np.ones((1, 1, 1), bool)) == pytest.approx(np.mean(kept))


@pytest.mark.parametrize(
    "task, answer", [("gsm8k", "#### 7"), ("gsm8k", "The answer is 7."), ("math", "so \\boxed{7}")]
)
def test_an_arm_has_no_answer_field(task, answer):
    arms = arms_of(["4 + 3 = 7", answer, "it is 7"])
    found = text_edits.equivalent(Letters(), arms, arms_of(["3 + 4 = 7"]), bare_task(task))
    stated = text_edits.claim(answer) == "7"  # it states the same, and yet it is none
    assert found.usable[0, 0, 0].tolist() == [True, False, True] and stated


def corrupted(text, seed, arms=3):
    task = type("Task", (), {"corrupt": staticmethod(corrupt)})
    ids = np.array([[Letters().encode(text)]])
    spans = Spans(*(np.array([[[x]]]) for x in (0, len(text), True)))
    item = Item(id=5, question="", answer=None)
    traces = SimpleNamespace(items=[item], tokens=ids, seed=(seed,))
    seen = SimpleNamespace(solver=SimpleNamespace(task=task, tokenizer=Letters()), traces=traces)
    return text_edits.corrupt(seen, spans, arms=arms, max_tokens=40)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 2**20))
def test_corruption_changes_one_number_and_nothing_else(a, b, seed):
    text = f"so {a} and {b} make it"
    found = corrupted(text, seed)
    assert found.family is Family.CONTENT and found.usable.all()
    for p in range(3):
        new = Letters().decode(found.tokens[0, 0, 0, p][: found.length[0, 0, 0, p]])
        old_words, new_words = text.split(), new.split()
        changed = [n for n, (x, y) in enumerate(zip(old_words, new_words, strict=True)) if x != y]
        assert len(changed) == 1 and changed[0] in (1, 3)
    again = corrupted(text, seed)
    np.testing.assert_array_equal(again.tokens, found.tokens)


def test_a_step_without_a_number_cannot_be_corrupted():
    assert not corrupted("no number here", 0).usable.any()


def test_columns_that_nobody_uses_are_trimmed():
    wide = Edits(np.ones((1, 2, 40), np.int32), np.array([[3, 9]]), np.ones((1, 2), bool),
                 Family.NULL)  # fmt: skip
    assert text_edits.trim(wide).tokens.shape == (1, 2, 16)
    narrow = Edits(np.ones((1, 2, 4), np.int32), np.array([[3, 4]]), np.ones((1, 2), bool),
                   Family.NULL)  # fmt: skip
    assert text_edits.trim(narrow).tokens.shape == (1, 2, 8)


def test_norm_energy_is_the_mean_square_of_the_last_token_below_the_last_layer():
    random = np.random.default_rng(0)
    k, v = (jnp.asarray(random.normal(size=(3, 2, 6, 4)), jnp.float32) for _ in "kv")
    segment = Segment(k, v, jnp.ones(6, bool))
    got = norm_energy(segment, jnp.int32(1), jnp.int32(4))
    expected = np.mean(np.stack([k[:-1, :, 3], v[:-1, :, 3]]) ** 2)
    assert float(got) == pytest.approx(float(expected), rel=1e-6)
    assert float(norm_energy(segment, jnp.int32(4), jnp.int32(4))) == 0


def test_given_responses_are_read_as_sampling_left_them():
    """Log-probabilities, entropies and caches of the same tokens, written or read."""
    prompts = toy.prompts([0, 1, 2, 3])
    prompt, rollout = draw()
    read_prompt, read = encode_responses(
        toy.POLICY, toy.PARAMS, prompts, rollout.tokens, rollout.length, toy.IS_STOP, rule=PLAIN
    )
    mask = np.arange(rollout.tokens.shape[-1]) < np.asarray(rollout.length)[..., None]
    np.testing.assert_array_equal(read.tokens, rollout.tokens)
    np.testing.assert_array_equal(read.stopped, rollout.stopped)
    np.testing.assert_allclose(read.logp, rollout.logp, atol=1e-6)
    np.testing.assert_allclose(read.entropy, rollout.entropy, atol=1e-6)
    np.testing.assert_array_equal(read.segment.mask, mask)
    for part in ("k", "v"):
        mine, theirs = (np.moveaxis(getattr(x.segment, part), 0, -1) for x in (read, rollout))
        kept = np.swapaxes(mine, 2, 3)[mask], np.swapaxes(theirs, 2, 3)[mask]
        np.testing.assert_array_equal(*kept)
        np.testing.assert_array_equal(getattr(read_prompt, part), getattr(prompt, part))


def test_swap_is_drawn_for_a_whole_batch_by_ids():
    keys = noise.question_keys(ROOT, 0, jnp.array([3, 9], jnp.uint32))
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), SPANS)
    tokens = jnp.stack([jnp.asarray(TOKENS)] * 2)
    found = step_edits._swapped(keys, tokens, batch, 8, 2)
    alone = step_edits._swapped(keys[1:], tokens[1:], jax.tree.map(lambda x: x[1:], batch), 8, 2)
    assert found.tokens.shape == (2, 3, 3, 2, 8)
    np.testing.assert_array_equal(found.tokens[1], alone.tokens[0])


def test_a_macro_step_has_the_steps_that_begin_in_it():
    """The last one's answer field, where readers stop, begins with its third step."""
    steps = Spans(
        jnp.array([0, 3, 5, 7, 9]), jnp.array([3, 5, 7, 9, 9]), jnp.arange(5) < 4
    )  # four of them
    macro = Spans(jnp.array([0, 3, 7]), jnp.array([3, 7, 7]), jnp.ones(3, bool))
    found = step_edits.steps_within(*jax.tree.map(lambda x: x[None, None], (steps, macro)))
    assert found.tolist() == [[[1, 2, 1]]]

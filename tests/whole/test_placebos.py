"""Placebos and positive controls T1-T9 on the shipped tiny policy (exact numbers: toy policy,
test_branches, test_laws, test_abduction)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import reward
from gccpo_jax.analysis.library import prompts_of
from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual import readers, step_edits, text_edits
from gccpo_jax.counterfactual.answer_laws import latent_laws
from gccpo_jax.counterfactual.arms import latent_arms, scored_arms, surface_arms
from gccpo_jax.counterfactual.candidates import candidates_of
from gccpo_jax.counterfactual.places import Places, boundary_sites, find_all_steps, starts_of
from gccpo_jax.counterfactual.read import ask, varied
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.reward.arms import Arms, Family
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import at_sites, continue_branches, fresh_tapes
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.traces import Seen, encode_traces, sample_traces
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.tasks.chain.text import solution_steps
from gccpo_jax.types import Spans

G, T, E, DRAWS = 3, 40, 4, 8
RULE = Rule(1.0)


@pytest.fixture(scope="module")
def model():
    task = chain(ChainConfig(train=8, id=24, ood=24, max_operations=3, seed=3))
    return open_model("tiny", task)


@pytest.fixture(scope="module")
def items(model):
    return model.solver.task.splits["id"][:4]


def given(model, items, rows, width=T):
    """Solutions (lines without newline) as traces [B, 1, T] and their steps."""
    solver = model.solver
    tokens, lengths = np.zeros((len(rows), 1, width), np.int32), np.zeros((len(rows), 1), np.int32)
    start, end = np.zeros((2, len(rows), 1, E), np.int32)
    mask = np.zeros((len(rows), 1, E), bool)
    for b, lines in enumerate(rows):
        pieces = [solver.tokenizer.encode(line + "\n") for line in lines]
        flat = [token for piece in pieces for token in piece]
        cuts = np.cumsum([0, *map(len, pieces)])
        tokens[b, 0, : len(flat)], lengths[b, 0] = flat, len(flat)
        start[b, 0, : len(lines)], end[b, 0, : len(lines)] = cuts[:-1], cuts[1:]
        mask[b, 0, : len(lines)] = True
    traces = encode_traces(
        solver,
        model.params,
        items,
        prompts_of(solver, items),
        tokens,
        lengths,
        rule=RULE,
        seed=(0, 1),
    )
    return traces, Spans(*map(jnp.asarray, (start, end, mask)))


def seen_by(model, traces):
    return Seen(model.solver, model.params, traces)


def asked_of(model, traces, spans, found, **section):
    """What interventions are given, where every step is read."""
    seen = seen_by(model, traces)
    places = Places(spans, spans, starts_of(seen))
    return ask(seen, seen, places, found, CounterfactualConfig(**section), SegmentationConfig(), T)


def worked(items):
    """The worked solutions without their answer lines."""
    return [solution_steps(item.meta["problem"])[:-1] for item in items]


def candidates(model, items, count=8):
    """The gold answer and its neighbours."""
    said = [[f"#### {int(i.answer) + d}" for d in (1, -1, 2, -2, 3, 4, -3)] for i in items]
    return candidates_of(
        model.solver.task, model.solver.tokenizer, items, np.array(said, object),
        count=count, max_tokens=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def solved(model, items):
    traces, spans = given(model, items, worked(items))
    return traces, spans, *candidates(model, items)


@pytest.fixture(scope="module")
def sampled(model, items):
    traces = sample_traces(
        model.solver, model.params, items, prompts_of(model.solver, items), group=G, rule=RULE,
        max_tokens=T, seed=(0, 0), watch=Stopwatch(),
    )  # fmt: skip
    spans = find_all_steps(
        model.solver.boundary, traces.rollout.tokens, traces.rollout.length,
        max_steps=E, min_tokens=2, max_tokens=0,
    )  # fmt: skip
    return traces, spans


def reader(model, traces, answers, draws=DRAWS, keys=None):
    group = traces.tokens.shape[1]
    found = fresh_tapes(traces.keys if keys is None else keys, group, draws)
    tapes = noise.keyed(found, model.solver.policy.vocab_size)
    return readers.continued(
        seen_by(model, traces), answers, 8, tapes, max_tokens=T, limit=T, at_once=1
    )


def test_t1_identity_is_a_placebo_bit_by_bit(model, solved):
    """The step itself in its place: R is 1.0, S is 0.0 and D^cf is 0.0 exactly."""
    traces, spans, found, answers = solved
    own = step_edits.own_steps(traces, spans)
    arms = scored_arms(seen_by(model, traces), spans, own, found)
    R, defined = reward.robustness(arms.factual, arms.laws, arms.usable)
    S, _ = reward.sensitivity(arms.factual, arms.laws, arms.usable)
    mask = np.asarray(spans.mask)
    assert np.asarray(defined)[mask].all()
    np.testing.assert_array_equal(np.asarray(R)[mask], 1.0)
    np.testing.assert_array_equal(S, 0.0)
    go_on = reader(model, traces, answers)
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=3), own)
    read = go_on(step_edits.sites_of(spans, twice))
    gain, known = reward.counterfactual_effect(
        jnp.asarray(read.value[..., 0]), jnp.asarray(read.value[..., 1:]),
        jnp.asarray(np.asarray(own.usable)),
    )  # fmt: skip
    assert np.asarray(known)[mask].all() and len(np.unique(read.value[mask])) > 1
    np.testing.assert_array_equal(gain, 0.0)


def test_t1_no_noise_and_an_empty_corruption_are_placebos(model, solved):
    traces, spans, found, _ = solved
    asked = asked_of(model, traces, spans, found, latent_sigma=0.0, latent_arms=2)
    arms = latent_arms(asked, 2).arms
    R, _ = reward.robustness(arms.factual, arms.laws, arms.usable)
    np.testing.assert_array_equal(np.asarray(R)[np.asarray(spans.mask)], 1.0)
    task = dataclasses.replace(model.solver.task, corrupt=lambda step, rng: step)
    seen = seen_by(model, traces)
    idle = dataclasses.replace(seen, solver=dataclasses.replace(model.solver, task=task))
    nothing = text_edits.corrupt(idle, spans, arms=1, max_tokens=T)
    arms = scored_arms(seen, spans, nothing, found)
    S, _ = reward.sensitivity(arms.factual, arms.laws, arms.usable)
    np.testing.assert_array_equal(S, 0.0)


def test_t2_replaying_all_keys_gives_the_same_tokens(model, items, sampled):
    """The whole trajectory, and its rest from every boundary under its own tape."""
    traces, spans = sampled
    again = sample_traces(
        model.solver, model.params, items, traces.prompts, group=G, rule=RULE,
        max_tokens=T, seed=(0, 0), watch=Stopwatch(),
    )  # fmt: skip
    np.testing.assert_array_equal(again.tokens, traces.tokens)
    own = fresh_tapes(traces.keys, G, 1, first=0)
    sites = boundary_sites(traces, spans.end, spans.mask)
    branches = continue_branches(
        model.solver.policy, model.params, traces.prompt, traces.rollout.segment,
        jax.tree.map(lambda x: x[:, :, :, 0], sites),
        at_sites(noise.keyed(own, model.solver.policy.vocab_size), E), model.solver.stop,
        rule=RULE, max_tokens=T, limit=T,
    )  # fmt: skip
    for b, g, k in np.argwhere(np.asarray(spans.mask)):
        rest = traces.tokens[b, g, spans.end[b, g, k] : traces.lengths[b, g]]
        got = np.asarray(branches.tokens[b, g, k, 0])[: branches.length[b, g, k, 0]]
        np.testing.assert_array_equal(got, rest)


def test_t3_intervening_later_changes_nothing_before(model, solved):
    """Other tokens in the last step: what is read of the steps before it is the same bits."""
    traces, spans, found, _ = solved
    tokens = traces.tokens.copy()
    last = np.asarray(spans.mask).sum(-1) - 1
    for b in range(len(tokens)):
        begin, end = (int(x[b, 0, last[b, 0]]) for x in (spans.start, spans.end))
        tokens[b, 0, begin:end] = tokens[b, 0, begin:end][::-1]
    other = encode_traces(
        model.solver, model.params, traces.items, traces.prompts, tokens, traces.lengths,
        rule=RULE, seed=(0, 1),
    )  # fmt: skip

    def laws(x):
        return np.asarray(
            latent_laws(
                model.solver.policy, model.params, x.prompt, x.rollout.segment, spans, x.keys,
                model.solver.field, found, jnp.float32(0.3), arms=1,
            )[1]
        )  # fmt: skip

    before, after = laws(traces), laws(other)
    earlier = np.arange(E) < last[..., None]
    np.testing.assert_array_equal(after[earlier], before[earlier])
    assert np.any(after != before)


def test_an_answer_first_and_decoration_after_it_change_no_law(model, items, solved):
    """The hack "answer first": a policy that follows its first line would be read as certain."""
    wrong = [str(int(item.answer) + 3) for item in items]
    rows = [[f"#### {n}", "So let us go on .", f"#### {n}"] for n in wrong]
    traces, spans = given(model, items, rows)
    seen, found, answers = seen_by(model, traces), *solved[2:]
    index = [answers[b].index(n) for b, n in enumerate(wrong)]
    cut_spans = Places(spans, spans, starts_of(seen)).read_spans

    def laws(spans):
        law, _ = latent_laws(
            model.solver.policy, model.params, *seen.cache, spans, traces.keys,
            model.solver.field, found, jnp.float32(0), arms=0,
        )  # fmt: skip
        return np.asarray(law)[np.arange(len(rows)), 0, :3, index]  # of it, after each step

    before, followed = laws(cut_spans), laws(spans)
    assert (followed[:, 0] - before[:, 0]).max() > 0.3, "the policy follows what it wrote"
    np.testing.assert_array_equal(before, before[:, :1].repeat(3, axis=1))


def test_t4_what_was_inserted_and_deleted_has_no_effect(model, items, solved):
    """Below the 95th percentile of known-null edits (other words, same numbers)."""
    traces, spans, found, answers = solved
    rows = [[lines[0], "Ben 2 + 3 = 5 hats", *lines[1:]][:E] for lines in worked(items)]
    longer, cuts = given(model, items, rows)
    before = boundary_sites(longer, cuts.start[:, :, 1:2], cuts.mask[:, :, 1:2])
    plain = boundary_sites(traces, spans.end[:, :, :1], spans.mask[:, :, :1])
    places = (longer, before), (traces, plain)
    scored = [readers.laws_at(seen_by(model, x), site, found) for x, site in places]
    effect = np.asarray(reward.jsd(*scored))
    null = known_null_effects(model, traces, spans, found)
    assert effect.max() <= np.quantile(null, 0.95)
    continued = [reader(model, x, answers)(s) for x, s in places]
    np.testing.assert_array_equal(continued[0].answers, continued[1].answers)


def known_null_effects(model, traces, spans, found):
    arms = surface_arms(asked_of(model, traces, spans, found, latent_arms=0), 4).arms
    distance = np.asarray(reward.jsd(arms.factual, arms.laws))
    last = np.asarray(spans.mask).sum(-1) - 1
    return np.take_along_axis(distance, last[..., None, None], axis=2)[
        np.asarray(arms.usable)[:, :, :1]
    ]


def effect_of(model, traces, spans, found, changed):
    """Mean JSD of the answer law after the last step when its text is `changed(b, text)`."""
    last = np.asarray(spans.mask).sum(-1) - 1
    lists = {}
    for b in range(len(traces.items)):
        k = int(last[b, 0])
        ids = traces.tokens[b, 0, spans.start[b, 0, k] : spans.end[b, 0, k]]
        lists[b, 0, k, 0] = model.solver.tokenizer.encode(
            changed(b, model.solver.tokenizer.decode(ids))
        )
    new = text_edits.from_lists((*spans.mask.shape, 1), lists, Family.CONTENT)
    arms = scored_arms(seen_by(model, traces), spans, new, found)
    return float(reward.sensitivity(arms.factual, arms.laws, arms.usable)[0].sum() / len(lists))


def test_t5_content_that_is_used_moves_the_answer_and_other_content_does_not(model, items, solved):
    traces, spans, found, _ = solved
    lines = worked(items)

    def numbers(text, change):
        words = text.split(" ")
        at = [n for n, word in enumerate(words) if word.strip().isdigit()]
        place = at[change]
        words[place] = str(int(words[place]) + 1)
        return " ".join(words)

    used = effect_of(model, traces, spans, found, lambda b, text: numbers(text, 2))
    unused = effect_of(model, traces, spans, found, lambda b, text: numbers(text, 0))
    other = effect_of(
        model, traces, spans, found, lambda b, text: lines[(b + 1) % len(lines)][0] + "\n"
    )
    assert used > 0.6 and other > 0.3
    assert unused < 0.1 * used


def test_t6_shared_noise_has_the_same_mean_and_a_lower_variance(model, solved):
    """Contrast of the first step as it is and with a wrong result, draw by draw."""
    traces, spans, _, answers = solved
    first = Spans(*(x[:, :, :1] for x in (spans.start, spans.end, spans.mask)))
    wrong = {}
    for b in range(len(traces.items)):
        text = model.solver.tokenizer.decode(traces.tokens[b, 0, : spans.end[b, 0, 0]])
        head, result = text.rsplit("= ", 1)
        ids = model.solver.tokenizer.encode(f"{head}= {(int(result.split()[0]) + 1) % 18} pens\n")
        wrong[b, 0, 0, 0] = ids
    new = text_edits.from_lists((*first.mask.shape, 1), wrong, Family.CONTENT)
    own = step_edits.own_steps(traces, first)
    draws = 48

    def hits(edit, keys=None):
        found = reader(model, traces, answers, draws, keys)(step_edits.sites_of(first, edit))
        return (found.answers[:, 0, 0, 0] == 0).astype(float)

    other = noise.question_keys(jax.random.key(5), 0, traces.prompts.ids)
    shared = hits(own) - hits(new)
    independent = hits(own) - hits(new, other)
    se = np.hypot(shared.std(1).mean(), independent.std(1).mean()) / np.sqrt(draws * len(shared))
    assert abs(shared.mean() - independent.mean()) < 4 * se
    assert shared.var(1).mean() < independent.var(1).mean()


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_t9_a_collapsed_policy_is_masked_and_not_robust(model, items, temperature):
    """A policy that says one thing: no arm counts, R is undefined rather than 1."""
    traces = sample_traces(
        model.solver, model.params, items[:2], prompts_of(model.solver, items[:2], 64), group=6,
        rule=Rule(temperature), max_tokens=T, seed=(0, 0), watch=Stopwatch(),
    )  # fmt: skip
    spans = find_all_steps(
        model.solver.boundary, traces.rollout.tokens, traces.rollout.length,
        max_steps=E, min_tokens=2, max_tokens=0,
    )  # fmt: skip
    collapsed = temperature < 1
    assert varied(traces).all() != collapsed
    fresh = step_edits.resample(seen_by(model, traces), spans, arms=6, min_tokens=2, limit=T)
    kept = text_edits.equivalent(model.solver.tokenizer, fresh, step_edits.own_steps(traces, spans))
    if collapsed:
        assert not kept.usable.any()
    law = jnp.ones((*spans.mask.shape, 6, 3)) / 3
    arms = Arms(law, jnp.asarray(kept.usable), Family.NUISANCE, law)
    _, defined = reward.robustness(arms.factual, arms.laws, arms.usable)
    assert not (collapsed and np.asarray(defined).any())


def test_splitting_a_step_keeps_the_sum_of_its_effects():
    """D telescopes whatever the boundaries."""
    phi, o = np.array([0.1, 0.4, 0.3, 0.8]), 1.0
    mask = jnp.ones(4, bool)
    fine = reward.effects(jnp.asarray(phi), jnp.float32(o), mask)
    coarse = reward.effects(jnp.asarray(phi[[0, 2]]), jnp.float32(o), mask[:2])
    assert float(fine.sum()) == pytest.approx(float(coarse.sum()))
    assert float(fine[:2].sum()) == pytest.approx(float(coarse[0]))

"""The beam against enumeration, what guides it, and a prefix gone on with as it was begun."""

import itertools
import operator
import types

import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.evaluation.beam import (
    Asking,
    Beam,
    Cost,
    Prefix,
    _agreement,
    _right,
    answers,
    search,
)
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling.answers import GREEDY
from gccpo_jax.sampling.opened import Model
from gccpo_jax.sampling.questions import Questions
from gccpo_jax.tasks.base import Item
from tests.helpers import oracles, toy

STEPS, DEPTH = 3, 4
SAMPLED = Rule()


def tree(seed):
    """log p(step | prefix) of every prefix of a toy policy: three next steps, of which 0 ends."""
    random, law = np.random.default_rng(seed), {}
    for depth in range(DEPTH):
        for prefix in itertools.product(range(STEPS), repeat=depth):
            law[prefix] = np.log(random.dirichlet(np.ones(STEPS)))
    return law


def ends(tokens):
    return tokens[-1:] == (0,) or len(tokens) == DEPTH


def likelihood(law, tokens):
    return sum(law[tokens[:k]][x] for k, x in enumerate(tokens))


def searched(laws, width):
    def grow(number, beams):
        found = [[x for x in beam if x.over] for beam in beams]
        for law, beam, row in zip(laws, beams, found, strict=True):
            for x in beam:
                longer = [(*x.tokens, step) for step in range(STEPS) if not x.over]
                row += [Prefix(t, likelihood(law, t), ends(t)) for t in longer]
        return found, Cost(*np.tile([len(beam) > 0 for beam in beams], (2, 1)).astype(int))

    def value(number, candidates):
        return [[x.logp for x in row] for row in candidates], Cost(*np.zeros((2, len(laws)), int))

    return search(len(laws), width, grow, value)


def test_a_beam_of_all_prefixes_finds_the_best_solution_and_one_of_width_one_is_greedy():
    laws = [tree(seed) for seed in range(8)]
    best, spent = searched(laws, STEPS**DEPTH)
    first, _ = searched(laws, 1)
    prefixes = (p for k in range(DEPTH) for p in itertools.product((1, 2), repeat=k))
    every = [(*p, x) for p in prefixes for x in range(STEPS) if ends((*p, x))]
    for law, found, one in zip(laws, best, first, strict=True):
        assert found.tokens == max(every, key=lambda tokens: likelihood(law, tokens))
        greedy = ()
        while not ends(greedy):
            greedy = (*greedy, int(np.argmax(law[greedy])))
        assert one.tokens == greedy
    assert any(a.tokens != b.tokens for a, b in zip(best, first, strict=True))
    assert set(spent.tokens) <= {1, 2, 3, 4} and len(set(spent.tokens)) > 1  # a round costs one


def test_branches_are_worth_what_is_right_or_what_most_of_them_say():
    task = types.SimpleNamespace(
        needs_gold=True,
        verify=lambda item, text: float(text == item.answer),
        answer_of=lambda item, text: text or None,
        same=operator.eq,
    )
    given = types.SimpleNamespace(
        model=types.SimpleNamespace(solver=types.SimpleNamespace(task=task)),
        questions=types.SimpleNamespace(items=[types.SimpleNamespace(answer="7")]),
    )
    texts = [["7", "8"], ["8", "8"], ["", "7"]]
    assert _right(given, 0, texts) == [0.5, 0.0, 0.5]
    assert _agreement(given, 0, texts) == [0.5, 1.0, 0.0]
    assert _agreement(given, 0, [["", ""]]) == [0.0]


def asking(rows, rule=SAMPLED, most=8, batch=4):
    """Searches for the toy policy's questions `rows`."""
    solver = types.SimpleNamespace(
        policy=toy.POLICY,
        stop=toy.IS_STOP,
        boundary=jnp.arange(toy.V) == toy.BOUNDARY,
        tokenizer=types.SimpleNamespace(decode=lambda ids, skip_special: "".join(map(str, ids))),
        task=types.SimpleNamespace(
            needs_gold=True, verify=lambda item, text: float(item.answer in text)
        ),
    )
    items = tuple(Item(100 + row, "", "3") for row in rows)
    tokens = tuple(tuple(toy.PROMPTS[row]) for row in rows)
    questions = Questions(items, tokens, 4, 5, 0)
    return Asking(Model(solver, toy.PARAMS, 64), questions, rule, 0, most, batch)


def likeliest(row, most):
    """(log-probability, response) of the likeliest response to a question, of all there are."""

    def best(tokens, logp):
        if tokens[-1:] == [toy.STOP] or len(tokens) == most:
            return logp, tokens
        law = oracles.law(toy.next_logits(toy.PROMPTS[row] + tokens), 1.0, 0, 1.0)
        return max(best([*tokens, x], logp + np.log(law[x])) for x in range(toy.V))

    return best([], 0.0)


def test_a_wide_beam_finds_the_likeliest_response_of_all():
    rows = (0, 2)
    found, _ = answers(asking(rows, most=3, batch=256), Beam(24, 32, "logp"), None)
    for row, one in zip(rows, found, strict=True):
        logp, tokens = likeliest(row, 3)
        assert list(one.tokens) == tokens and one.logp == pytest.approx(logp, abs=1e-4)


def test_a_prefix_is_gone_on_with_as_it_was_begun():
    rows = (0, 2)
    many = asking(rows, GREEDY)
    whole, _ = many.go_on([(n, Prefix(), 0) for n in range(2)], 0, 1, toy.IS_STOP)
    whole = [one for (one,) in whole]
    cut = [Prefix(one.tokens[: len(one.tokens) // 2]) for one in whole]
    again, cost = many.go_on([(n, cut[n], 0) for n in range(2)], 1, 1, toy.IS_STOP)
    assert [one for (one,) in again] == whole and all(one.over for one in whole)
    assert max(len(one.tokens) for one in cut) > 1
    for n, row in enumerate(rows):
        assert cost.tokens[n] == len(whole[n].tokens) - len(cut[n].tokens)
        assert cost.again[n] == len(toy.PROMPTS[row]) + len(cut[n].tokens)
    short = asking(rows, GREEDY, most=2)
    ((limited,),), _ = short.go_on([(0, Prefix(whole[0].tokens[:1]), 0)], 1, 1, toy.IS_STOP)
    assert limited.tokens == whole[0].tokens[:2] and limited.over


def test_what_a_question_is_answered_does_not_depend_on_the_others():
    beam = Beam(2, 2, "phi", 3)
    both, spent = answers(asking((0, 2, 3)), beam, None)
    one, own = answers(asking((3,)), beam, None)
    assert one[0] == both[2] and own.tokens[0] == spent.tokens[2] > len(one[0].tokens)
    assert len({prefix.tokens for prefix in both}) == 3

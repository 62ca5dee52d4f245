"""The beam against enumeration, what guides it, and a prefix gone on with as it was begun."""

import dataclasses
import itertools
import operator
import types

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
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.questions import load_questions
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

STEPS, DEPTH = 3, 4


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
    asking = types.SimpleNamespace(
        model=types.SimpleNamespace(solver=types.SimpleNamespace(task=task)),
        questions=types.SimpleNamespace(items=[types.SimpleNamespace(answer="7")]),
    )
    texts = [["7", "8"], ["8", "8"], ["", "7"]]
    assert _right(asking, 0, texts) == [0.5, 0.0, 0.5]
    assert _agreement(asking, 0, texts) == [0.5, 1.0, 0.0]
    assert _agreement(asking, 0, [["", ""]]) == [0.0]


@pytest.fixture(scope="module")
def opened():
    task = chain(ChainConfig(train=4, id=2, ood=2, max_operations=3))
    model = open_model("tiny", task)
    return model, load_questions(task, "id", model.solver.tokenizer, 64)


def test_a_prefix_is_gone_on_with_as_it_was_begun(opened):
    model, questions = opened
    asking = Asking(model, questions, GREEDY, 0, 40, 2)
    stop = model.solver.stop
    whole, _ = asking.go_on([(0, Prefix(), 0), (1, Prefix(), 0)], 0, 1, stop)
    cut = [Prefix(one.tokens[:n], 0.0) for (one,), n in zip(whole, (9, 5), strict=True)]
    again, cost = asking.go_on([(n, cut[n], 0) for n in range(2)], 1, 1, stop)
    assert [one for (one,) in again] == [one for (one,) in whole] and whole[0][0].over
    left = [len(whole[n][0].tokens) - len(cut[n].tokens) for n in range(2)]
    assert cost.tokens.tolist() == left
    assert cost.again.tolist() == [len(questions.tokens[n]) + (9, 5)[n] for n in range(2)]
    short = Asking(model, questions, GREEDY, 0, 12, 2)
    ((limited,),), _ = short.go_on([(0, cut[0], 0)], 1, 1, stop)
    assert limited.tokens == whole[0][0].tokens[:12] and limited.over


def test_what_a_question_is_answered_does_not_depend_on_the_others(opened):
    model, questions = opened
    asking, beam = Asking(model, questions, Rule(), 0, 40, 4), Beam(2, 2, "phi", 2)
    both, spent = answers(asking, beam, None)
    alone = dataclasses.replace(questions, items=questions.items[1:], tokens=questions.tokens[1:])
    one, own = answers(dataclasses.replace(asking, questions=alone), beam, None)
    assert one[0] == both[1] and own.tokens[0] == spent.tokens[1] > len(one[0].tokens)

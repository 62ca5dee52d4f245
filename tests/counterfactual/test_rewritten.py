"""Trajectories in other words: on the host, of the chain suite's worked solutions."""

import dataclasses
import re
import types
from functools import partial

import numpy as np
import pytest

from gccpo_jax.counterfactual.places import Places
from gccpo_jax.counterfactual.rewritten import _of_group, rewritten
from gccpo_jax.policy.tokenizer import load_tokenizer
from gccpo_jax.tasks import bare_task, make_tokenizer
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.tasks.rewrites import WOMEN
from gccpo_jax.types import Spans

TASK = chain(ChainConfig(train=3, id=3, ood=3))
ITEMS = TASK.splits["id"]
SIZE, E = 60, 6


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(make_tokenizer("chain", tmp_path_factory.mktemp("tokenizer")))


def variants(tokenizer, task=TASK, how="surface", seed=(0, 1), prompt_tokens=60, size=SIZE):
    """Two rewrites of the worked solutions, two trajectories per question."""
    tokens, mask = np.zeros((3, 2, size), np.int32), np.zeros((3, 2, E), bool)
    starts, ends = np.zeros((2, 3, 2, E), np.int32)
    answer = np.zeros((3, 2), np.int32)
    for b, item in enumerate(ITEMS):
        pieces = [tokenizer.encode(line + "\n") for line in item.solution.split("\n")]
        flat = [token for piece in pieces for token in piece]
        cuts = np.cumsum([0, *map(len, pieces)])
        tokens[b, :, : len(flat)] = flat[:size]
        starts[b, :, : len(pieces)], ends[b, :, : len(pieces)] = cuts[:-1], cuts[1:]
        mask[b, :, : len(pieces)] = True
        answer[b] = cuts[-2]
    spans = Spans(starts, ends, mask)
    traces = types.SimpleNamespace(
        tokens=tokens,
        limit=tokens.shape[-1],
        items=ITEMS,
        seed=seed,
        prompts=types.SimpleNamespace(tokens=np.zeros((3, prompt_tokens), np.int32)),
    )
    solver = types.SimpleNamespace(task=task, tokenizer=tokenizer)
    seen = types.SimpleNamespace(solver=solver, traces=traces)
    return rewritten(seen, Places(spans, spans, answer), [how], 2)


def test_variants_say_the_same_in_other_words(tokenizer):
    found = variants(tokenizer)
    assert found.exists.all()
    for b, item in enumerate(ITEMS):
        for q in (2 * b, 2 * b + 1):
            question = tokenizer.decode(found.prompts[q][found.prompt_mask[q]])
            text = tokenizer.decode(found.tokens[q, 0, : found.length[q, 0]])
            assert question == TASK.prompt(found.items[q])
            assert question != TASK.prompt(item) and text not in item.solution
            digits = [c for c in item.solution.rsplit("\n", 1)[0] if c.isdigit()]
            assert [c for c in text if c.isdigit()] == digits  # the answer field is left out
            steps = item.solution.count("\n")
            assert (np.diff([0, *found.ends[q, 0, :steps]]) > 0).all()
            assert found.ends[q, 0, steps - 1] == found.length[q, 0]


def test_other_numbers_have_a_gold_answer_of_their_own(tokenizer):
    found = variants(tokenizer, how="number")
    assert found.exists.all()
    for q, item in enumerate(found.items):
        assert item.answer != ITEMS[q // 2].answer
        text = tokenizer.decode(found.tokens[q, 0, : found.length[q, 0]])
        assert text.split("= ")[-1].split()[0] == item.answer  # worked solutions stay right


def test_a_question_is_rewritten_alike_for_its_group_and_otherwise_at_another_step(tokenizer):
    found = variants(tokenizer)
    np.testing.assert_array_equal(found.tokens[:, 0], found.tokens[:, 1])
    np.testing.assert_array_equal(found.prompts, variants(tokenizer).prompts)
    assert (variants(tokenizer, seed=(0, 2)).prompts != found.prompts).any()
    assert (found.prompts[0::2] != found.prompts[1::2]).any()


def test_a_trajectory_that_is_not_rewritten_alike_is_left_out(tokenizer):
    def moody(item, steps, rng):
        question, lines = TASK.number(item, steps, rng)
        return (dataclasses.replace(question, question="?") if steps else question), lines

    task = dataclasses.replace(TASK, number=moody)
    assert not variants(tokenizer, task, "number").exists.any()


def test_a_name_becomes_the_same_one_in_all_siblings():
    """Whoever else a sibling mentions; and nobody becomes somebody that one of them mentions."""
    item = Item(id=7, question="Alice and Tom have 3 pens. How many?", answer="3")
    texts = [
        ["Alice has 2.\n", "Tom has 1.\n"],
        [],
        [f"{name} asks Alice.\n" for name in WOMEN[:-3] if name != "Alice"],
        ["Emma and Alice wait for Tom.\n"],
    ]
    for seed in range(20):
        draw = partial(np.random.default_rng, seed)
        question, lines = _of_group(bare_task("gsm8k"), "surface", item, texts, draw)
        alice, tom = re.match(r"(\w+) and (\w+) have", question.question).groups()
        assert lines[0] == [f"{alice} has 2.\n", f"{tom} has 1.\n"] and lines[1] == []
        assert all(line.endswith(f" asks {alice}.\n") for line in lines[2])
        assert lines[3][0].endswith(f"and {alice} wait for {tom}.\n")
        assert alice in WOMEN[-3:] and tom != "Tom"


def test_words_and_numbers_are_drawn_apart(tokenizer):
    drawn = {}

    def drawing(how):
        def rewrite(item, steps, rng):
            drawn.setdefault(how, []).append(int(rng.integers(2**62)))
            return item, list(steps)

        return rewrite

    for how in ("surface", "number"):
        variants(tokenizer, dataclasses.replace(TASK, **{how: drawing(how)}), how)
    assert len({*drawn["surface"]}) == 6 == len({*drawn["number"]})
    assert not {*drawn["surface"]} & {*drawn["number"]}


def test_variants_that_do_not_fit_or_do_not_exist_are_marked(tokenizer):
    assert not variants(tokenizer, prompt_tokens=5).exists.any()
    assert not variants(tokenizer, dataclasses.replace(TASK, surface=lambda *_: None)).exists.any()

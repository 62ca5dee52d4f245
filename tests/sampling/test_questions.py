"""Prompts: order, position, padding, and prompts that do not fit."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.sampling.questions import TrainBatches, eval_batches, load_questions
from gccpo_jax.tasks.base import Item, Task

SIZE = 23


class Letters:
    """A tokenizer whose ids are code points."""

    pad_id = 0

    def render(self, prompt, system=None, chat=True):
        return [ord(c) for c in (system or "") + prompt]


def make_task(size=SIZE, **changes):
    items = [
        Item(id=2**31 + n, question="q" * (1 + n % 5) + chr(97 + n), answer="") for n in range(size)
    ]
    task = Task(
        name="toy",
        splits={"train": items},
        prompt=lambda item: item.question,
        extract=lambda text: text,
        verify=lambda item, text: 1.0,
    )
    return dataclasses.replace(task, **changes)


def questions(width=6, **changes):
    return load_questions(make_task(**changes), "train", Letters(), width)


def ids_of(batches, count):
    return [[item.id for item in next(batches)[0]] for _ in range(count)]


def test_prompts_are_right_padded_and_keep_their_ids():
    data = questions()
    prompts = data.prompts([0, 4])
    np.testing.assert_array_equal(
        prompts.tokens, [[113, 97, 0, 0, 0, 0], [113, 113, 113, 113, 113, 101]]
    )
    np.testing.assert_array_equal(prompts.mask.sum(1), [2, 6])
    assert prompts.ids.dtype == np.uint32 and prompts.ids.tolist() == [2**31, 2**31 + 4]
    assert prompts.tokens.dtype == np.int32 and prompts.mask.dtype == bool


def test_items_and_prompts_belong_together():
    data = questions()
    for items, prompts in (next(TrainBatches(data, 4, seed=1)) for _ in range(3)):
        for item, row, mask in zip(items, prompts.tokens, prompts.mask, strict=True):
            assert "".join(map(chr, row[mask])) == item.question
        assert prompts.ids.tolist() == [item.id for item in items]


def test_a_saved_position_gives_the_same_batches():
    data = questions()
    whole = TrainBatches(data, 4, seed=3)
    ids_of(whole, 7)
    state = json.loads(json.dumps(whole.get_state()))
    expected = ids_of(whole, 20)  # crosses several epochs
    resumed = TrainBatches(data, 4, seed=3)
    resumed.set_state(state)
    assert ids_of(resumed, 20) == expected
    # Going back works too: the position is not only ever ahead.
    whole.set_state(state)
    assert ids_of(whole, 20) == expected


def test_a_position_of_another_order_is_refused():
    data = questions()
    state = TrainBatches(data, 4, seed=3).get_state()
    with pytest.raises(UserError, match="seed"):
        TrainBatches(data, 4, seed=4).set_state(state)


def test_prompts_that_read_otherwise_are_refused():
    """As on another day, where a chat template tells the date."""
    state = TrainBatches(questions(), 4, seed=3).get_state()
    other = TrainBatches(questions(system="!", width=7), 4, seed=3)
    with pytest.raises(UserError, match="prompts have other tokens"):
        other.set_state(state)
    del state["prompts"]  # a checkpoint of before they were kept
    other.set_state(state)


def test_each_epoch_is_a_new_order_without_repeats():
    batches = TrainBatches(questions(), 4, seed=0)
    epochs = [sum(ids_of(batches, SIZE // 4), []) for _ in range(6)]
    assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    # Nobody is left out for good.
    assert len(set().union(*epochs)) == SIZE


def test_the_seed_decides_the_order():
    data = questions()
    one, same, other = (ids_of(TrainBatches(data, 4, seed=s), 5) for s in (5, 5, 6))
    assert one == same and one != other


def test_without_shuffle_the_order_is_the_file():
    batches = TrainBatches(questions(), 4, seed=0, shuffle=False)
    assert sum(ids_of(batches, 2), []) == [2**31 + n for n in range(8)]


def test_long_prompts_are_skipped_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        data = questions(width=3)
    assert data.skipped == sum(1 for n in range(SIZE) if 2 + n % 5 > 3)
    assert max(map(len, data.tokens)) == 3
    assert f"{data.skipped} of {SIZE} questions skipped" in caplog.text
    assert "longest 6" in caplog.text


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: questions(width=1), "shortest has 2"),
        (lambda: questions(size=0), "the split is empty"),
        (lambda: load_questions(make_task(), "test", Letters(), 9), "no split 'test'"),
        (lambda: TrainBatches(questions(), SIZE + 1, seed=0), "batch_size=24"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize("batch_size", [1, 4, 23, 40])
def test_evaluation_covers_every_question_once(batch_size):
    seen = []
    for items, prompts, weight in eval_batches(questions(), batch_size):
        assert prompts.tokens.shape == (batch_size, 6) and len(items) == batch_size
        assert weight.dtype == np.float32 and weight.shape == (batch_size,)
        assert prompts.mask.any(1).all()  # a filled-up row is a real prompt
        seen += [item.id for item, w in zip(items, weight, strict=True) if w]
    assert seen == [2**31 + n for n in range(SIZE)]


def test_system_and_chat_reach_the_tokenizer():
    assert questions(system="S").tokens[0] == (ord("S"), ord("q"), ord("a"))

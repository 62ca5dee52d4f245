"""Rewrites of chain questions: exact in the answer, in the labels and in the words."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.problem import Problem
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.tasks.rewrites import corrupt

TASK = chain(ChainConfig(train=300, id=60, ood=60, decoration=0.3))
SPLITS = sorted(TASK.splits)
PROBLEM = Problem("Ana", "pens", ("puts", "takes", "sends"), 3, (4, -2, 5), label=42)
ITEM = dataclasses.replace(
    TASK.splits["train"][0],
    question=text.question(PROBLEM),
    answer="10",
    meta={"problem": PROBLEM},
)
SEEDS = st.integers(0, 2**32 - 1)


def split_steps(item):
    return item.solution.splitlines(keepends=True)


def digits(string):
    return re.findall(r"[0-9]+", string)


@pytest.mark.parametrize("split", SPLITS)
def test_surface_keeps_answer_labels_and_numbers(split):
    rng = np.random.default_rng(1)
    for item in TASK.splits[split]:
        steps = split_steps(item)
        changed, lines = TASK.surface(item, steps, rng)
        assert changed.answer == item.answer and changed.id == item.id
        assert TASK.check(changed, lines) == TASK.check(item, steps)
        assert [digits(line) for line in lines] == [digits(step) for step in steps]
        assert digits(changed.question) == digits(item.question)
        assert TASK.verify(changed, "".join(lines)) == 1.0


@pytest.mark.parametrize("split", ["id", "ood_surface", "ood_clause"])
def test_surface_changes_every_name_thing_and_verb_into_training_words(split):
    rng = np.random.default_rng(2)
    for item in TASK.splits[split]:
        old = item.meta["problem"]
        new = TASK.surface(item, split_steps(item), rng)[0].meta["problem"]
        assert old.name != new.name and old.thing != new.thing
        assert all(a != b for a, b in zip(old.verbs, new.verbs, strict=True))
        assert new.name in text.NAMES and new.thing in text.THINGS
        assert set(new.verbs) <= set(text.VERBS)
        # The same word stays the same word, two words stay two.
        assert len(set(new.verbs)) == len(set(old.verbs))
        if old.clause:
            assert new.clause.name != new.name and new.clause.thing != new.thing
            assert new.clause.number == old.clause.number


@given(SEEDS)
def test_surface_maps_words_of_a_policy_one_to_one(seed):
    line = " ".join([*text.NAMES, *text.THINGS, *text.VERBS, "3 + x = nonsense"])
    changed, lines = TASK.surface(ITEM, [line + "\n"], np.random.default_rng(seed))
    problem = changed.meta["problem"]
    words = lines[0].split()
    assert set(words) == set(line.split()) and len(words) == len(line.split())
    assert words[text.NAMES.index("Ana")] == problem.name
    assert lines[0].endswith("3 + x = nonsense\n")


def test_surface_draws_the_label_without_looking_at_the_answer():
    rng = np.random.default_rng(0)
    labels = [TASK.surface(ITEM, [], rng)[0].meta["problem"].label for _ in range(400)]
    assert set(labels) == {None, *range(21)}
    assert 70 < labels.count(None) < 130  # one in four
    bare = dataclasses.replace(ITEM, meta={"problem": dataclasses.replace(PROBLEM, label=None)})
    assert TASK.surface(bare, [], rng)[0].meta["problem"].label is None


def test_surface_leaves_the_hidden_cue_alone():
    problem = dataclasses.replace(PROBLEM, hidden=PROBLEM.gold())
    item = dataclasses.replace(ITEM, question=text.question(problem), meta={"problem": problem})
    room = text.hidden_sentence(problem.gold())
    assert room in item.question
    for seed in range(20):
        changed, _ = TASK.surface(item, [], np.random.default_rng(seed))
        assert room in changed.question and changed.meta["problem"].hidden == problem.gold()


def test_number_keeps_the_hidden_cue_which_then_points_at_the_old_answer():
    for hidden in range(21):
        problem = dataclasses.replace(PROBLEM, label=None, hidden=hidden)
        item = dataclasses.replace(ITEM, question=text.question(problem), meta={"problem": problem})
        for seed in range(10):
            changed, _ = TASK.number(item, [], np.random.default_rng(seed))
            assert text.hidden_sentence(hidden) in changed.question
            assert changed.meta["problem"].hidden == hidden
            assert changed.answer not in (item.answer, str(hidden))


@pytest.mark.parametrize("split", SPLITS)
def test_number_gives_another_answer_and_equally_labelled_steps(split):
    rng = np.random.default_rng(3)
    for item in TASK.splits[split]:
        steps = split_steps(item)
        changed, lines = TASK.number(item, steps, rng)
        old, new = item.meta["problem"], changed.meta["problem"]
        assert changed.answer != item.answer and changed.answer != str(old.label)
        assert TASK.verify(changed, "".join(lines)) == 1.0
        assert TASK.check(changed, lines) == TASK.check(item, steps)
        # Signs, words and the label stay.
        assert np.array_equal(np.sign(old.changes), np.sign(new.changes))
        assert re.sub("[0-9]+", "", changed.question) == re.sub("[0-9]+", "", item.question)
        assert dataclasses.replace(new, start=old.start, changes=old.changes) == old
        assert (new.gold() > 20) if split == "ood_range" else (max(new.values()) <= 20)


@pytest.mark.parametrize("seed", range(10))
def test_number_keeps_a_mistake_by_its_amount(seed):
    steps = ["Ana 3 + 4 = 8 pens\n", "Ana 8 - 2 = 6 pens\n", "#### 6"]
    changed, lines = TASK.number(ITEM, steps, np.random.default_rng(seed))
    problem = changed.meta["problem"]
    start, (first, second, _) = problem.start, problem.changes
    wrong = start + first + 1
    assert lines == [
        f"Ana {start} + {first} = {wrong} pens\n",
        f"Ana {wrong} - {-second} = {wrong + second} pens\n",
        f"#### {wrong + second}",
    ]
    assert TASK.check(changed, lines) == ["wrong_arithmetic", "valid", "early_answer"]


@pytest.mark.parametrize(
    "steps",
    [
        ["Ana 3 + 6 = 9 pens"],
        ["Ana has 4 pens"],
        ["Ana 3 + = 7 pens"],
        ["#### 12"],
        ["Ana 3 - 4 = -1 pens"],
    ],
)
def test_number_refuses_what_has_no_one_origin(steps):
    assert TASK.number(ITEM, steps, np.random.default_rng(0)) is None


def test_number_follows_copies_restatements_filler_and_an_early_answer():
    steps = ["Ana has 3 pens\n", "4 + 3 = 7\n", "4 + 3 = 7\n", "Now we count .\n", "#### 10"]
    changed, lines = TASK.number(ITEM, steps, np.random.default_rng(4))
    problem = changed.meta["problem"]
    start, first, second = problem.start, problem.changes[0], problem.values()[1]
    equation = f"{first} + {start} = {second}\n"
    assert lines == [
        f"Ana has {start} pens\n",
        equation,
        equation,
        "Now we count .\n",
        f"#### {changed.answer}",
    ]


STEPS = st.text("0123456789 +-=Anape.s", min_size=0, max_size=30)


@given(STEPS, SEEDS)
def test_corrupt_changes_exactly_one_number(step, seed):
    changed = corrupt(step, np.random.default_rng(seed))
    body = re.sub(r"^\s*[0-9]{1,3}[.)] ", "", step)
    if not digits(body):
        assert changed is None
        return
    assert re.sub("[0-9]", "0", changed) == re.sub("[0-9]", "0", step)  # same length and place
    # Numbers as the rewrite sees them: eighteen digits at most.
    pairs = zip(re.findall("[0-9]{1,18}", step), re.findall("[0-9]{1,18}", changed), strict=True)
    moved = [(int(a), int(b)) for a, b in pairs if a != b]
    assert len(moved) == 1 and abs(moved[0][0] - moved[0][1]) <= 9


def test_corrupt_reaches_every_number_of_a_step():
    rng = np.random.default_rng(0)
    seen = {corrupt("Ana 3 + 4 = 7 pens", rng) for _ in range(300)}
    assert len(seen) == 27 and "Ana 3 + 4 = 7 pens" not in seen
    assert corrupt("no number here", rng) is None


def test_rewrites_are_functions_of_their_generator():
    for rewrite in (TASK.surface, TASK.number):
        one, two = (
            rewrite(ITEM, text.solution_steps(PROBLEM), np.random.default_rng(5)) for _ in range(2)
        )
        assert one == two

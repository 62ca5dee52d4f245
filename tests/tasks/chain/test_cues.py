"""The chain suite with cues: two ways to an answer, and splits in which a cue is right or not."""

import dataclasses

import numpy as np
import pytest

from gccpo_jax.tasks.chain.families import FAMILIES
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

SMALL = ChainConfig(train=50, id=20, ood=20)
TWO_WAYS = ChainConfig(
    train=600, id=40, ood=40, labelled=1.0, shortcut=1.0, hidden=1.0, tied=True, direct=0.8
)


def test_tied_cues_tell_in_the_second_wording_only_and_direct_solutions_follow_them():
    items = chain(TWO_WAYS).splits["train"]
    for wording, told in ((0, 1 / 21), (1, 1.0)):
        some = [i for i in items if i.meta["problem"].template == wording]
        for cue in ("label", "hidden"):
            right = [getattr(i.meta["problem"], cue) == int(i.answer) for i in some]
            assert np.mean(right) == pytest.approx(told, abs=0.04)
        direct = [i.solution == f"#### {i.answer}" for i in some]
        assert np.mean(direct) == pytest.approx(0.8 * wording, abs=0.06)
    # Some questions of the first wording have no label, none of the second.
    some = chain(dataclasses.replace(TWO_WAYS, labelled=0.5)).splits["train"]
    bare = [i.meta["problem"].template for i in some if i.meta["problem"].label is None]
    assert set(bare) == {0} and len(bare) / len(some) == pytest.approx(0.25, abs=0.06)
    # Where no cue tells, the second wording reasons too.
    half = chain(dataclasses.replace(TWO_WAYS, shortcut=0.5, hidden=0.0)).splits["train"]
    assert all("=" in i.solution for i in half if i.meta["problem"].label != int(i.answer))


@pytest.mark.parametrize("cue, other", [("label", "hidden"), ("hidden", "label")])
def test_cue_splits_hold_the_same_problems_in_both_wordings(cue, other):
    task = chain(dataclasses.replace(TWO_WAYS, shortcut=0.9, hidden=0.9, tied=False))
    splits = {says: task.splits[f"{cue}_{says}"] for says in ("right", "wrong", "absent")}
    bare = []
    for says, items in splits.items():
        assert [i.meta["wording"] for i in items] == ["first", "second"] * 40
        problems = [i.meta["problem"] for i in items]
        assert [p.template for p in problems] == [0, 1] * 40
        numbers = [getattr(p, cue) for p in problems]
        golds = [p.gold() for p in problems]
        if says == "right":
            assert numbers == golds
        elif says == "wrong":
            assert not any(a == b for a, b in zip(numbers, golds, strict=True))
            assert None not in numbers and numbers[::2] == numbers[1::2]
        else:
            assert set(numbers) == {None}
        assert all(getattr(p, other) is not None for p in problems)
        bare.append([dataclasses.replace(p, **{cue: None}) for p in problems])
    assert bare[0] == bare[1] == bare[2]
    held_out = [i.meta["problem"] for i in task.splits["id"]]
    assert [p.changes for p in held_out] == [p.changes for p in bare[0][::2]]


def test_families_without_a_label_are_those_with_it_item_by_item():
    task = chain(dataclasses.replace(TWO_WAYS, shortcut=0.9, hidden=0.0))
    families = [name for name in task.splits if name.endswith("_nolabel")]
    assert sorted(families) == sorted(["ood_nolabel", *(f"{name}_nolabel" for name in FAMILIES)])
    for name in FAMILIES:
        pairs = zip(task.splits[name], task.splits[f"{name}_nolabel"], strict=True)
        for one, other in pairs:
            problem = one.meta["problem"]
            assert problem.label is not None
            assert dataclasses.replace(problem, label=None) == other.meta["problem"]


def test_cue_splits_leave_the_other_splits_as_they_were():
    plain = chain(SMALL).splits
    assert not any(name.startswith(("label", "hidden")) for name in plain)
    cued = chain(dataclasses.replace(SMALL, shortcut=0.9)).splits
    assert list(plain) == list(cued)[: len(plain)]
    ids = [[item.id for item in splits[name]] for splits in (plain, cued) for name in plain]
    assert ids[: len(plain)] == ids[len(plain) :]
    assert {"label_right", "label_wrong", "label_absent"} <= set(cued)
    assert "hidden_right" not in cued

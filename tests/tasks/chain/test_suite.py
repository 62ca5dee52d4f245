"""The chain suite: splits, families, tokenizer."""

import dataclasses
import re

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import load_task, make_tokenizer
from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.families import Law, bounds_of, draw_problem
from gccpo_jax.tasks.chain.suite import ChainConfig, _held_out, _unlabelled, chain
from gccpo_jax.tasks.chain.tokenizer import build_tokenizer, vocabulary

SMALL = ChainConfig(train=1500, id=200, ood=150)
TASK = chain(SMALL)
OOD = sorted(name for name in TASK.splits if name.startswith("ood_"))
TOKENIZER = build_tokenizer()


def problems(split):
    return [item.meta["problem"] for item in TASK.splits[split]]


def words(items):
    return {word for item in items for word in item.question.split()}


def test_every_family_is_there():
    families = "clause depth nolabel range reversed shortcut surface template".split()
    assert ["ood_" + family for family in families] == OOD
    sizes = {name: len(items) for name, items in TASK.splits.items()}
    assert sizes == {"train": 1500, "id": 200, **dict.fromkeys(OOD, 150)}


def test_the_seed_decides_everything():
    config = dataclasses.replace(SMALL, train=50, id=20, ood=20, decoration=0.3, shortcut=0.5)
    assert chain(config).splits == chain(config).splits
    other = chain(dataclasses.replace(config, seed=1)).splits
    assert all(other[name] != items for name, items in chain(config).splits.items())


def test_ids_are_unique_and_fit():
    ids = [item.id for items in TASK.splits.values() for item in items]
    assert len(set(ids)) == len(ids) and max(ids) < 2**32


def test_held_out_questions_are_not_in_training_even_without_their_label():
    def bare(item):
        return re.sub(r"^Label \w+ \w+ \. ", "", item.question)

    train = {bare(item) for item in TASK.splits["train"]}
    for split, items in TASK.splits.items():
        if split != "train":
            assert not train & {bare(item) for item in items}, split


def test_a_draw_that_is_in_training_is_not_held_out():
    law = Law(bounds_of(20), (2, 4), labelled=0.5, shortcut=0.0)
    train = [draw_problem(law, rng) for rng in [np.random.default_rng(7)] for _ in range(30)]
    found = _held_out(train, 30, law, np.random.default_rng(7))  # draws the same ones first
    assert not {_unlabelled(p) for p in train} & {_unlabelled(p) for p in found}
    cued = dataclasses.replace(train[0], label=3, hidden=4)
    assert _unlabelled(cued) == _unlabelled(train[0])
    with pytest.raises(UserError, match="only 0 of 1 held-out"):
        _held_out([draw_problem(law, _Repeats())], 1, law, _Repeats())


class _Repeats:
    """A generator that draws one problem for ever."""

    def __getattr__(self, name):
        return getattr(np.random.default_rng(7), name)


@pytest.mark.parametrize("split", ["train", "id", *OOD])
def test_solutions_are_right_and_every_step_is_valid(split):
    for item in TASK.splits[split]:
        numbers = [int(n) for n in re.findall(r"= (\d+)", item.solution)]
        assert item.answer == str(numbers[-1]) == TASK.extract(item.solution)
        assert TASK.verify(item, item.solution) == 1.0
        assert set(TASK.check(item, item.solution.split("\n"))) == {"valid"}
        assert 0 <= int(item.answer) <= 99


def test_training_law():
    for problem in problems("train"):
        assert 2 <= len(problem.changes) <= 4 and 1 <= problem.start <= 9
        assert all(0 <= value <= 20 for value in problem.values())
        assert all(1 <= abs(change) <= 9 for change in problem.changes)
    signs = [change > 0 for problem in problems("train") for change in problem.changes]
    assert 0.45 < np.mean(signs) < 0.65


@pytest.mark.parametrize("shortcut, low, high", [(0.0, 0.02, 0.08), (0.9, 0.87, 0.94), (1.0, 1, 1)])
def test_a_label_gives_the_answer_away_as_often_as_asked(shortcut, low, high):
    task = chain(ChainConfig(train=1500, id=50, ood=50, shortcut=shortcut))
    labels = [(i.meta["problem"].label, int(i.answer)) for i in task.splits["train"]]
    told = [label == gold for label, gold in labels if label is not None]
    assert low <= np.mean(told) <= high and 0.87 <= len(told) / 1500 <= 0.93
    # The broken shortcut is broken whatever training does.
    assert all(i.meta["problem"].label != int(i.answer) for i in task.splits["ood_shortcut"])


def test_a_label_encodes_its_number_digit_by_digit():
    assert text.label_sentence(40) == f"Label {text.CODES[4]} {text.CODES[0]} ."
    assert len({text.label_sentence(n) for n in range(100)}) == 100


def test_a_plain_label_says_its_number_in_every_split_and_rewrite():
    sizes = {"train": 40, "id": 8, "ood": 8, "labelled": 1.0, "shortcut": 0.9}
    coded, plain = (chain(ChainConfig(**sizes, plain=plain)) for plain in (False, True))
    for split, items in plain.splits.items():
        for item, other in zip(items, coded.splits[split], strict=True):
            problem = item.meta["problem"]
            assert dataclasses.replace(problem, plain=False) == other.meta["problem"]
            said = re.match(r"Somebody thinks it is (\d+) \. ", item.question)
            assert (int(said[1]) if said else None) == problem.label
    item = plain.splits["label_wrong"][0]
    words = [plain.surface(item, [], np.random.default_rng(n))[0] for n in range(9)]
    told = {w.meta["problem"].label for w in words}
    assert len(told) > 3 and None in told and all("Label" not in w.question for w in words)
    assert plain.number(item, [], np.random.default_rng(0))[0].question[:25] == item.question[:25]


@pytest.mark.parametrize("family", ["surface", "template", "clause", "shortcut", "nolabel"])
def test_a_family_changes_one_thing_of_its_held_out_pair(family):
    changed = {
        "surface": {"name", "thing", "verbs"},
        "template": {"template"},
        "clause": {"clause"},
        "shortcut": {"label"},
        "nolabel": {"label"},
    }[family]
    for one, other in zip(problems("id"), problems("ood_" + family), strict=False):
        different = {
            field.name
            for field in dataclasses.fields(one)
            if getattr(one, field.name) != getattr(other, field.name)
        }
        assert different <= changed and (different or changed == {"label"})
        assert one.gold() == other.gold()
    if family in ("shortcut", "nolabel"):
        assert len({p.label is None for p in problems("ood_" + family)}) == 1


def test_ood_surface_has_only_new_names_things_and_verbs():
    train = words(TASK.splits["train"])
    new = {*text.NEW_NAMES, *text.NEW_THINGS, *text.NEW_VERBS}
    assert not train & new
    for problem in problems("ood_surface"):
        assert {problem.name, problem.thing, *problem.verbs} <= new


def test_ood_template_has_new_sentences_of_words_from_training():
    assert words(TASK.splits["ood_template"]) <= words(TASK.splits["train"])
    patterns = {problem.template for problem in problems("ood_template")}
    assert patterns == {2, 3} and {p.template for p in problems("train")} == {0, 1}


def test_ood_range_ends_above_training():
    for one, other in zip(problems("id"), problems("ood_range"), strict=False):
        assert 21 <= other.gold() <= 40 and min(other.values()) >= 0
        assert 1 <= other.start <= 9 and all(1 <= abs(change) <= 9 for change in other.changes)
        assert len(one.changes) == len(other.changes) and one.name == other.name


def test_ood_depth_has_more_operations_on_values_of_training():
    lengths = {len(problem.changes) for problem in problems("ood_depth")}
    assert lengths == {5, 6}
    assert all(0 <= value <= 20 for p in problems("ood_depth") for value in p.values())


def test_ood_clause_says_something_about_somebody_else():
    for one, other in zip(TASK.splits["id"], TASK.splits["ood_clause"], strict=False):
        problem, clause = other.meta["problem"], other.meta["problem"].clause
        assert clause.name != problem.name and clause.thing != problem.thing
        sentence = f" {clause.name} has {clause.number} {clause.thing} ."
        assert other.question.replace(sentence, "", 1) == one.question


def test_ood_reversed_asks_for_the_start():
    for one, other in zip(problems("id"), TASK.splits["ood_reversed"], strict=False):
        problem = other.meta["problem"]
        assert problem.changes == one.changes and int(other.answer) == one.start
        assert f"Now {problem.name} has {one.gold()} {problem.thing} ." in other.question
        assert f"{problem.name} has some {problem.thing} ." in other.question


def test_without_labels_there_are_no_label_families():
    task = chain(ChainConfig(train=20, id=5, ood=5, labelled=0))
    assert "Label" not in words(task.splits["train"])
    assert "ood_shortcut" not in task.splits and "ood_nolabel" not in task.splits


def test_decoration_adds_steps_of_three_kinds_and_nothing_wrong():
    task = chain(ChainConfig(train=400, id=5, ood=5, decoration=0.5))
    labels = [
        label for i in task.splits["train"] for label in TASK.check(i, i.solution.split("\n"))
    ]
    # A restatement of a value that comes back is a copy.
    assert set(labels) == {"valid", "filler", "restatement", "irrelevant", "copy"}
    assert labels.count("copy") < 0.02 * len(labels)
    assert all(TASK.verify(i, i.solution) == 1.0 for i in task.splits["train"])


def test_direct_solutions_state_the_answer_alone_in_one_wording():
    task = chain(ChainConfig(train=400, id=5, ood=5, direct=0.7))
    plain = chain(ChainConfig(train=400, id=5, ood=5))
    alone = [i.solution == f"#### {i.answer}" for i in task.splits["train"]]
    second = [i.question.find("There are") >= 0 for i in task.splits["train"]]
    assert not any(a and not b for a, b in zip(alone, second, strict=True))
    assert sum(alone) / sum(second) == pytest.approx(0.7, abs=0.1)
    assert [i.question for i in task.splits["id"]] == [i.question for i in plain.splits["id"]]


@pytest.mark.parametrize(
    "response, answer",
    [
        ("#### 007", "7"),
        ("#### 3\n#### 12 pens", "12"),
        ("####-3", "-3"),
        ("#### - 3", "-3"),
        ("3 + 4 = 7", None),
        ("#### pens", None),
        ("#### 5\n####", None),
        ("#### " + "9" * 40, "9" * 40),
        ("#### 3 + 4 = 7", "7"),
        ("#### 3 or 4", None),
        ("#### 1.5", None),
        ("", None),
    ],
)
def test_extraction(response, answer):
    assert TASK.extract(response) == answer


@pytest.mark.parametrize("split", ["train", "id", *OOD])
def test_texts_survive_the_tokenizer(split):
    for item in TASK.splits[split]:
        for string in (TASK.prompt(item), item.solution):
            ids = TOKENIZER.encode(string).ids
            assert TOKENIZER.decode(ids) == string and 2 not in ids


def test_any_tokens_survive_decoding_and_encoding():
    rng = np.random.default_rng(0)
    for _ in range(300):
        ids = rng.integers(3, len(vocabulary()), size=20).tolist()
        assert TOKENIZER.encode(TOKENIZER.decode(ids)).ids == ids


def test_texts_are_short():
    def longest(split, read):
        return max(len(TOKENIZER.encode(read(item)).ids) for item in TASK.splits[split])

    assert len(vocabulary()) <= 120
    for split in ("train", "id"):
        assert longest(split, TASK.prompt) <= 45
        assert longest(split, lambda item: item.solution) <= 42
    assert max(longest(split, TASK.prompt) for split in OOD) <= 60
    assert max(longest(split, lambda item: item.solution) for split in OOD) <= 66


def test_transformers_loads_the_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        make_tokenizer("chain", tmp_path / "tok")
    )
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    item = TASK.splits["train"][0]
    ids = tokenizer.encode(item.solution)
    assert ids == TOKENIZER.encode(item.solution).ids
    assert tokenizer.decode([*ids, 1], skip_special_tokens=True) == item.solution


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shortcut": 1.5}, "shortcut <= 1"),
        ({"hidden": -0.5}, "0 <= hidden"),
        ({"min_operations": 5}, "max_operations"),
        ({"train": 0}, "train, id and ood >= 1"),
        (
            {"shortcuts": 0.5},
            "no option 'shortcuts'; it has careless, decoration, direct, hidden, id",
        ),
        ({"seed": "1"}, "seed='1' should be of type int"),
        ({"shortcut": True}, "shortcut=True should be of type float"),
        ({"path": "x.jsonl"}, "leave data.path empty"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_task("chain", **options)


def test_unknown_tasks_are_named():
    for name in ("chains", "chain:x", "reasoning_gym", "gsm8k:main"):
        with pytest.raises(UserError, match="there are chain, gsm8k, math, .*reasoning_gym:<data"):
            load_task(name)

"""Tasks that read files: answers, splits, and every way a file can be wrong."""

import json
import logging
import re
import sys
import types

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.answers import last_boxed
from gccpo_jax.tasks.checking.equality import open_math
from gccpo_jax.tasks.gsm8k import extract, gsm8k
from gccpo_jax.tasks.open_math import math
from gccpo_jax.tasks.rewrites import MEN, WOMEN, rename
from tests.helpers.paths import DATA

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data files in {DATA}")
GOOD = {"question": "Anna has 3 pens and buys 4. How many?", "answer": "7"}


def write(path, *rows):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return str(path)


def rows(count, **changes):
    return [{"question": f"What is {n} + 0?", "answer": str(n), **changes} for n in range(count)]


@pytest.mark.parametrize(
    "response, answer",
    [
        ("1. 3 + 4 = 7\n#### 7", "7"),
        ("#### 1,234", "1234"),
        ("#### $1,200.00", "1200"),
        ("#### -5 degrees", "-5"),
        ("#### **18**", "18"),
        ("#### 7.", "7"),
        ("#### 1\nwait\n#### 2", "2"),
        ("#### none\n\\boxed{5} or 6", "5"),
        ("so \\boxed{x = 12} not 3", "12"),
        ("first 3, then 4.5 apples", "4.5"),
        ("no number", None),
        ("", None),
        ("#### " + "1" * 30, "1" * 30),
    ],
)
def test_extraction(response, answer):
    assert extract(response) == answer


def test_verification_is_by_value(tmp_path):
    task = gsm8k(write(tmp_path / "a.jsonl", *rows(10)))
    item = task.splits["train"][7]
    scores = [task.verify(item, r) for r in ("#### 7", "#### 07.0", "#### 8", "7.5", "", "#### 77")]
    assert scores == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_original_format_becomes_numbered_steps(tmp_path):
    answer = "She has 3+4=<<3+4=7>>7 pens.\n\nThat is $1,007.\n#### 1,007"
    path = write(tmp_path / "a.jsonl", *rows(9), {**GOOD, "answer": answer})
    item = gsm8k(path, held_out=1).splits["id"][0]
    assert item.answer == "1007"
    assert item.solution == "1. She has 3+4=7 pens.\n2. That is $1,007.\n#### 1007"


def test_a_gold_answer_may_have_a_minus_sign_of_its_own(tmp_path):
    path = write(tmp_path / "a.jsonl", *rows(9), {**GOOD, "answer": "so\n#### −1,007"})
    assert gsm8k(path, held_out=1).splits["id"][0].answer == "-1007"


def test_prompt_says_how_to_answer(tmp_path):
    path = write(tmp_path / "a.jsonl", *rows(10))
    task = gsm8k(path)
    assert task.chat and not gsm8k(path, chat=False).chat
    prompt = task.prompt(task.splits["train"][0])
    assert prompt.startswith("What is 0 + 0?") and "####" in prompt and "numbered" in prompt


def test_the_end_of_one_file_is_held_out(tmp_path):
    path = write(tmp_path / "a.jsonl", *rows(100))
    splits = gsm8k(path, held_out=7).splits
    assert [i.answer for i in splits["id"]] == [str(n) for n in range(93, 100)]
    assert [i.answer for i in splits["train"]] == [str(n) for n in range(93)]
    # At most a fifth of the file.
    assert len(gsm8k(path).splits["id"]) == 20
    ids = [item.id for items in splits.values() for item in items]
    assert len(set(ids)) == 100


def test_questions_of_the_evaluation_file_leave_training(tmp_path, caplog):
    train = write(tmp_path / "a.jsonl", *rows(10))
    held = write(tmp_path / "b.jsonl", *rows(3))
    with caplog.at_level(logging.WARNING):
        splits = load_task("gsm8k", path=train, eval_path=held).splits
    assert len(splits["train"]) == 7 and len(splits["id"]) == 3
    assert "3 held-out questions taken out" in caplog.text
    with pytest.raises(UserError, match="every training question is also held out"):
        gsm8k(held, held)


def test_a_directory_has_a_file_for_each_split(tmp_path):
    write(tmp_path / "train.jsonl", *rows(10))
    write(tmp_path / "test.jsonl", GOOD)
    splits = gsm8k(str(tmp_path)).splits
    assert (len(splits["train"]), len(splits["id"])) == (10, 1)


def test_parquet_of_the_hub(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    import pyarrow.parquet as parquet

    for split, some in (("train", rows(10)), ("test", [GOOD])):
        file = tmp_path / "main" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(some), file)
    splits = gsm8k(str(tmp_path)).splits
    assert [i.question for i in splits["id"]] == [GOOD["question"]]
    (tmp_path / "train.parquet").write_text("no")
    with pytest.raises(UserError, match=r"several data sets, choose one of"):
        gsm8k(str(tmp_path))
    with pytest.raises(UserError, match="not a Parquet file"):
        gsm8k(str(tmp_path / "train.parquet"))


def test_tensorflow_datasets(monkeypatch):
    made = {"train": rows(10), "test": [GOOD]}

    def data_source(name, split):
        if name != "gsm8k":
            raise RuntimeError(f"Dataset {name} not found.\nAvailable: ...")
        return [{k: v.encode() for k, v in row.items()} for row in made[split]]

    fake = types.SimpleNamespace(data_source=data_source)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
    splits = gsm8k("tfds:gsm8k").splits
    assert (len(splits["train"]), splits["id"][0].question) == (10, GOOD["question"])
    with pytest.raises(UserError, match="Dataset gsm9k not found.; prepare it once"):
        gsm8k("tfds:gsm9k")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'gccpo-jax\[tfds\]'"):
        gsm8k("tfds:gsm8k")


@pytest.mark.parametrize(
    "line, message",
    [
        ("{oops", "a.jsonl:2: not JSON"),
        ("[1, 2]", "a.jsonl:2: list instead of an object"),
        ("[" * 100_000, "a.jsonl:2: not JSON"),
        ('{"answer": "7"}', "a.jsonl:2: no field 'question' among ['answer']"),
        ('{"question": "How many?"}', "a.jsonl:2: no field 'answer'"),
        ({**GOOD, "answer": True}, "a.jsonl:2: 'answer' is True (bool); expected a string"),
        ({**GOOD, "answer": [7, 8]}, "a.jsonl:2: 'answer' is [7, 8] (list)"),
        ({**GOOD, "answer": None}, "a.jsonl:2: 'answer' is None"),
        ({**GOOD, "answer": "  "}, "a.jsonl:2: 'answer' is empty"),
        ({**GOOD, "question": ""}, "a.jsonl:2: 'question' is empty"),
        ({**GOOD, "solution": 3}, "a.jsonl:2: 'solution' is 3 (int)"),
        ({**GOOD, "answer": "a half"}, "a.jsonl:2: 'answer' is 'a half', not an integer"),
        ({**GOOD, "answer": "It is.\n####"}, "a.jsonl:2: 'answer' is"),
        ({**GOOD, "answer": "0.5"}, 'other answers: task "math"'),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    path = write(tmp_path / "a.jsonl", GOOD, line, *rows(10))
    with pytest.raises(UserError, match=re.escape(message)):
        gsm8k(path, held_out=1)


def test_not_utf8_is_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(json.dumps(GOOD).encode() + b'\n{"question": "\xff"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:2: not UTF-8 \(byte 14"):
        gsm8k(str(file))


def test_blank_lines_and_a_byte_order_mark_are_no_mistake(tmp_path):
    file = tmp_path / "a.jsonl"
    lines = "\r\n\r\n".join(json.dumps(row) for row in rows(10))
    file.write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\r\n\n")
    assert len(gsm8k(str(file)).splits["train"]) == 8


def test_nothing_to_read_is_named(tmp_path):
    empty = write(tmp_path / "empty.jsonl", "")
    few = write(tmp_path / "few.jsonl", *rows(4))
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "readme.md", "")
    for path, message in [
        (empty, "no questions in it"),
        (few, "4 questions are too few"),
        (str(tmp_path / "none.jsonl"), "no such file"),
        (
            str(tmp_path / "folder"),
            "no file named train*.jsonl, .json or .parquet; it holds readme",
        ),
        ("", "set data.path"),
    ]:
        with pytest.raises(UserError, match=re.escape(message)):
            gsm8k(path)


def test_people_get_other_names_everywhere(tmp_path):
    question = "Anna's sister Beth met Tom. Anna, she said, has 3 pens; Annabel has 4."
    solution = "Anna and Beth have 3.\n#### 7"
    path = write(tmp_path / "a.jsonl", *rows(9), {"question": question, "answer": solution})
    item = gsm8k(path, held_out=1).splits["id"][0]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        changed, (step,) = rename(item, ["Anna gives Tom 2 pens"], rng)
        anna, beth, tom = re.match(r"(\w+)'s sister (\w+) met (\w+)\.", changed.question).groups()
        expected = f"{anna}'s sister {beth} met {tom}. {anna}, she said, has 3 pens; Annabel has 4."
        assert changed.question == expected
        assert step == f"{anna} gives {tom} 2 pens" and changed.answer == "7"
        assert changed.solution == f"1. {anna} and {beth} have 3.\n#### 7"
        assert {anna, beth} <= set(WOMEN) - {"Anna", "Beth"} and tom in MEN and anna != beth
        seen.add(anna)
    assert len(seen) > 10


def test_without_a_known_name_there_is_no_rename(tmp_path):
    item = gsm8k(write(tmp_path / "a.jsonl", *rows(10))).splits["id"][0]
    assert rename(item, ["Anna has 3"], np.random.default_rng(0)) is None


def test_a_new_name_is_nobody_elses(tmp_path):
    question = f"How old is {WOMEN[0]}?"
    path = write(tmp_path / "a.jsonl", *rows(9), {"question": question, "answer": "7"})
    item = gsm8k(path, held_out=1).splits["id"][0]
    others = " ".join(WOMEN[1:-1])
    for seed in range(5):
        changed, steps = rename(item, [others], np.random.default_rng(seed))
        assert changed.question == f"How old is {WOMEN[-1]}?" and steps == [others]


def test_no_name_is_on_both_lists():
    assert len({*WOMEN, *MEN}) == len(WOMEN) + len(MEN)


def test_boxes_nest():
    assert last_boxed(r"\boxed{\frac{1}{2}} and \boxed {\{1, 2\}}") == r"\{1, 2\}"
    assert last_boxed(r"\boxed{7} \boxed{8") == "7"
    assert last_boxed(r"\fbox{7} or $\boxed 8$.") == "8" and last_boxed(r"\boxed to") is None


def test_math_compares_by_value(tmp_path):
    pytest.importorskip("math_verify")
    gold = r"\frac{1}{2}"
    some = [{"problem": f"{n}?", "answer": gold, "solution": r"\boxed{1/2}"} for n in range(10)]
    task = math(write(tmp_path / "m.jsonl", *some), held_out=2)
    item = task.splits["id"][0]
    assert item.answer == gold and task.verify(item, item.solution) == 1.0
    scores = [task.verify(item, r) for r in (r"\boxed{0.5}", r"\boxed{2}", "0.5", r"\boxed{")]
    assert scores == [1.0, 0.0, 0.0, 0.0]
    assert task.verify(item, r"\boxed{3} no, \boxed{0.5}") == 1.0  # the last one counts


@needs_data
def test_gold_solutions_of_gsm8k_score_1():
    task = gsm8k(str(DATA / "gsm8k_train.jsonl"), str(DATA / "gsm8k_test.jsonl"))
    sizes = {name: len(items) for name, items in task.splits.items()}
    assert sizes == {"train": 7473, "id": 660}
    for items in task.splits.values():
        assert all(task.extract(item.solution) == item.answer for item in items)
        assert not any("<<" in item.solution for item in items)


@needs_data
def test_many_questions_of_gsm8k_can_be_renamed():
    task = gsm8k(str(DATA / "gsm8k_train.jsonl"), str(DATA / "gsm8k_test.jsonl"))
    rng = np.random.default_rng(0)
    done = [rename(item, [], rng) for item in task.splits["id"]]
    assert np.mean([d is not None for d in done]) > 0.4
    for item, new in zip(task.splits["id"], done, strict=True):
        if new is not None:
            changed, words = new[0].question.split(), item.question.split()
            assert len(changed) == len(words) and changed != words


@needs_data
def test_gold_solutions_of_math_score_1():
    pytest.importorskip("math_verify")
    task = math(str(DATA / "math500_dev.jsonl"))
    assert len(task.splits["train"]) == 200 and len(task.splits["id"]) == 50
    for item in task.splits["id"]:
        assert last_boxed(item.solution) == item.answer
        assert task.verify(item, item.solution) == 1.0
        # Equal text needs no verifier; here it is asked all the same.
        assert open_math(item.answer, f"so \\boxed{{{item.answer}}}", 60) == 1.0, item.answer


def test_a_file_for_a_task_that_reads_none_is_answered_with_those_that_do(tmp_path):
    with pytest.raises(UserError, match="leave data.path empty, or .* reads files: gsm8k, math"):
        load_task("chain", path=write(tmp_path / "questions.jsonl", GOOD))

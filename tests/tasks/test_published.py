"""Benchmarks in the fields of their authors, and their conventions on real rows."""

import json
import logging

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import read_task
from gccpo_jax.tasks.files import read_records
from tests.helpers.paths import DATA

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real items beside the checkout")
ASK = "How many pens?"
ROWS = {
    "gsm8k": ({"question": ASK, "answer": "1+1=<<1+1=2>>2\n#### 1,002"}, ASK, "1002"),
    "gsm_symbolic": (
        {"id": 3, "instance": 7, "question": ASK, "answer": "so\n#### 2", "original_id": 41},
        ASK,
        "2",
    ),
    "svamp": (
        {"ID": "chal-1", "Body": "Ana has 145 pens", "Question": ASK, "Answer": 145.0},
        f"Ana has 145 pens {ASK}",
        "145",
    ),
    "asdiv": (
        {"body": "Ana has 9.", "question": ASK, "answer": "9 (pens)", "formula": "7+2=9"},
        f"Ana has 9. {ASK}",
        "9",
    ),
    "multiarith": ({"question": f" {ASK} ", "final_ans": "4"}, ASK, "4"),
    "multiarith_first": ({"iIndex": 0, "sQuestion": ASK, "lSolutions": [39.0]}, ASK, "39"),
    "aime": ({"ID": "2024-I-1", "Problem": ASK, "Answer": 204}, ASK, "204"),
    "amc": ({"id": 0, "problem": ASK, "answer": 142.0, "url": "x"}, ASK, "142"),
}
MATH = {"problem": ASK, "level": "Level 5", "type": "Algebra", "solution": r"so $\boxed{\frac12}$"}
XML = """<Machine-Reading-Corpus-File><ProblemSet>
<Problem ID="a" Grade="1" Source="x"><Body>Ana has 9.</Body><Question>How many?</Question>
<Solution-Type>Addition</Solution-Type><Answer>9 (pens)</Answer><Formula>7+2=9</Formula></Problem>
<Problem ID="b" Grade="2" Source="x"><Body>Ana has 9.</Body><Question>Half?</Question>
<Solution-Type>Division</Solution-Type><Answer>4.5 (pens)</Answer><Formula>9/2=4.5</Formula>
</Problem></ProblemSet></Machine-Reading-Corpus-File>"""


@pytest.mark.parametrize("name", ROWS)
def test_number_items_are_read_as_they_are_published(tmp_path, name):
    row, question, answer = ROWS[name]
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps([row]))
    task = read_task("gsm8k", {name: str(file)})
    item = task.splits[name][0]
    assert (item.question, item.answer, item.id) == (question, answer, 1 << 24)
    assert task.verify(item, f"#### {answer}") == 1.0


def test_a_whole_number_has_no_decimals(tmp_path):
    (tmp_path / "amc.json").write_text(json.dumps([ROWS["amc"][0]]))
    (item,) = read_task("math", {"amc": str(tmp_path / "amc.json")}).splits["amc"]
    assert item.answer == "142"


def test_the_answer_of_a_math_file_is_the_last_box_of_its_solution(tmp_path):
    (tmp_path / "1.json").write_text(json.dumps(MATH, indent=1))
    task = read_task("math", {"a": str(tmp_path / "1.json"), "b": str(tmp_path / "1.json")})
    (one,), (other,) = task.splits.values()
    assert one.answer == r"\frac12" and (one.meta["level"], one.meta["type"]) == (
        "Level 5",
        "Algebra",
    )
    assert one.id != other.id


def test_of_asdiv_the_number_items_are_read_and_the_others_counted(tmp_path, caplog):
    (tmp_path / "ASDiv.xml").write_text(XML)
    with caplog.at_level(logging.WARNING):
        (record,) = read_records(str(tmp_path / "ASDiv.xml"), "test")
    assert (record.question, record.answer, record.id) == ("Ana has 9. How many?", "9", "a")
    assert record.labels["Grade"] == "1" and record.labels["Solution-Type"] == "Addition"
    assert "1 items left out, whose answer is no whole number" in caplog.text
    (tmp_path / "ASDiv.xml").write_text(XML[:-10])
    with pytest.raises(UserError, match="ASDiv.xml: truncated or damaged"):
        read_records(str(tmp_path / "ASDiv.xml"), "test")


def test_a_task_without_files_reads_none(tmp_path):
    with pytest.raises(UserError, match="task 'chain' reads no file of questions.*gsm8k, math"):
        read_task("chain", {"a": "a.jsonl"})


@needs_data
def test_real_rows_keep_their_level_subject_and_source():
    paths = {name: str(DATA / f"{name}.jsonl") for name in ("math500_dev",)}
    items = read_task("math", paths).splits["math500_dev"]
    assert len(items) == 250 and {item.meta["level"] for item in items} <= set("12345")
    assert len({item.meta["subject"] for item in items}) == 7
    items = read_task("gsm8k", {"test": str(DATA / "gsm8k_test.jsonl")}).splits["test"]
    assert len(items) == 660 and items[0].answer == "18"
    assert items[0].meta["source"] == "openai/grade-school-math:test"


@needs_data
def test_real_rows_in_the_fields_of_their_authors(tmp_path):
    with (DATA / "math500_dev.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines][:60]
    theirs = tmp_path / "math.jsonl"
    theirs.write_text(
        "".join(
            json.dumps({"problem": r["question"], "solution": r["solution"], **r["meta"]}) + "\n"
            for r in rows
        )
    )
    ours = read_task("math", {"a": str(DATA / "math500_dev.jsonl")}).splits["a"][:60]
    for one, other in zip(read_task("math", {"a": str(theirs)}).splits["a"], ours, strict=True):
        assert (one.question, one.answer) == (other.question, other.answer)
        assert one.meta["subject"] == other.meta["subject"]

"""Step-labelled sets from JSON Lines: every form of label, and every way to get it wrong."""

import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gccpo_jax.analysis.labelled import LabelledRow, read_labelled
from gccpo_jax.errors import UserError
from gccpo_jax.tasks.chain.check import FLAWS, LABELS

ROW = {"question": "1 + 1 ?", "steps": ["one", "two", ""], "label": 1}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("labelled") / "rows.jsonl"


def read(file, *rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_labelled(str(file))


def test_a_row_of_process_bench(file):
    row = {
        "id": "gsm8k-0",
        "generator": "some model",
        "problem": " Sue has 18 pens. ",
        "steps": ["First.", "Then.\n"],
        "final_answer_correct": False,
        "label": 1,
    }
    assert read(file, row) == [
        LabelledRow(
            question="Sue has 18 pens.",
            steps=("First.", "Then.\n"),
            answer=None,
            valid=(True, False),
            labels=1,
            id="gsm8k-0",
            where=f"{file}:1",
        )
    ]


@pytest.mark.parametrize(
    "label, valid, earliest",
    [
        (-1, (True, True, True), -1),
        (0, (False, None, None), 0),
        (1, (True, False, None), 1),
        (2, (True, True, False), 2),
        ([1, 0, -1], (True, None, False), 2),
        ([0, 0, 0], (None, None, None), -1),
        ([-1, 1, -1], (False, True, False), 0),
        ([True, False, True], (True, False, True), 1),
        ([True, None, None], (True, None, None), -1),
        (["+", "-", "+"], (True, False, True), 1),
        (["filler", "valid", "wrong_operand"], (None, True, False), 2),
        ([None, None, None], (None, None, None), -1),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("name", ["label", "labels"])
def test_forms_of_labels(file, name, label, valid, earliest):
    (row,) = read(file, {"question": "?", "steps": ["a", "", "c"], name: label})
    assert (row.valid, row.earliest_error) == (valid, earliest)
    assert row.labels == (tuple(label) if isinstance(label, list) else label)


def test_words_of_the_checker_agree_with_its_own_judgement(file):
    for word in LABELS:
        (row,) = read(file, {"question": "?", "steps": ["a", "b"], "labels": [word, "valid"]})
        assert (row.valid[0] is False) == (word in FLAWS)
        assert (row.valid[0] is True) == (word == "valid")


def test_what_may_be_left_out_or_empty(file):
    rows = read(
        file,
        {"question": "no steps"},
        {"question": "null", "steps": None, "label": None, "answer": None, "id": None},
        {"question": "no step", "steps": [], "label": -1, "answer": " 7 ", "id": 0},
        {"question": "no labels", "steps": [""]},
    )
    assert [row.steps for row in rows] == [None, None, (), ("",)]
    assert [row.valid for row in rows] == [None, None, (), None]
    assert [row.earliest_error for row in rows] == [None, None, -1, None]
    assert [row.answer for row in rows] == [None, None, "7", None]
    assert [row.id for row in rows] == [f"{file}:1", f"{file}:2", "0", f"{file}:4"]


def test_blank_lines_count_and_a_byte_order_mark_does_not(file):
    file.write_bytes("\ufeff\r\n\n".encode() + json.dumps(ROW).encode() + b"\r\n")
    assert [row.where for row in read_labelled(str(file))] == [f"{file}:3"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"question": 3}, r"'question' is 3 \(int\); expected a string in quotes"),
        ({"question": " "}, "'question' is empty"),
        ({"question": "\ud800"}, r"'question' has half of a surrogate pair, '\\ud800', at char"),
        ({"answer": 7}, r"'answer' is 7 \(int\); expected a string"),
        ({"steps": "one\ntwo"}, r"'steps' is 'one\\ntwo' \(str\); expected a list of strings"),
        ({"steps": ["a", 2]}, r"'steps\[1\]' is 2 \(int\); expected a string in quotes"),
        ({"steps": ["a", ["b"]]}, r"'steps\[1\]' is \['b'\] \(list\)"),
        ({"steps": ["a", "\udfff", ""]}, r"'steps\[1\]' has half of a surrogate pair"),
        ({"steps": None}, "'label' is 1, but there are no 'steps'"),
        ({"steps": []}, r"'label' is 1 \(int\); expected -1 \(no steps\)"),
        ({"label": 3}, r"'label' is 3 \(int\); expected -1 \(no error\) or an index from 0 to 2"),
        ({"label": -2}, "'label' is -2"),
        ({"label": 1.0}, r"'label' is 1.0 \(float\); expected the index of the earliest wrong"),
        ({"label": float("nan")}, r"'label' is nan \(float\)"),
        ({"label": True}, r"'label' is True \(bool\)"),
        ({"label": "1"}, r"'label' is '1' \(str\)"),
        ({"label": {"steps": []}}, r"'label' is \{'steps': \[\]\} \(dict\)"),
        ({"labels": [1, 1, 1]}, "both 'label' and 'labels'"),
        ({"label": [1, -1]}, "2 entries in 'label' for 3 steps; expected one per step"),
        ({"label": []}, "0 entries in 'label' for 3 steps"),
        ({"label": [1, 2, 1]}, r"'label\[1\]' is 2 \(int\); expected .*numbers 1, 0, -1"),
        ({"label": [1, True, 0]}, "expected entries of one kind instead of bool, int"),
        ({"label": [1, "valid", None]}, "expected entries of one kind instead of int, str"),
        ({"label": [0.5, 0.5, float("nan")]}, r"'label\[0\]' is 0.5 \(float\)"),
        ({"label": ["valid", "good", "valid"]}, r"'label\[1\]' is 'good' \(str\).*wrong_operand"),
        ({"label": [[], [], []]}, r"'label\[0\]' is \[\] \(list\)"),
        ({"id": 1.5}, r"'id' is 1.5 \(float\); expected a string or an integer"),
        ({"id": "\ud800"}, "'id' has half of a surrogate pair"),
    ],
)
def test_malformed_rows_say_where_what_and_what_instead(file, change, message):
    with pytest.raises(UserError, match=r"rows\.jsonl:2: .*" + message):
        read(file, ROW, {**ROW, **change})


@pytest.mark.parametrize(
    "line, message",
    [
        (b"{oops", "not JSON"),
        (b"[1, 2]", 'list instead of an object; expected {"question"'),
        (b"null", "NoneType instead of an object"),
        (b'{"steps": []}', r"no field 'question' among \['steps'\]"),
        (b"[" * 100_000, "not JSON"),
        (b'{"label": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"question": "\xff"}', r"not UTF-8 \(byte 14 of the line\)"),
    ],
)
def test_malformed_lines(file, line, message):
    file.write_bytes(json.dumps(ROW).encode() + b"\n" + line + b"\n")
    with pytest.raises(UserError, match=r"rows\.jsonl:2: " + message):
        read_labelled(str(file))


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="nothing: cannot be read .No such file"):
        read_labelled(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="cannot be read"):
        read_labelled(str(tmp_path))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n")
    with pytest.raises(UserError, match="no rows in it; expected one object per line"):
        read_labelled(str(empty))


def test_a_message_stays_short(file):
    with pytest.raises(UserError) as caught:
        read(file, {**ROW, "label": "x" * 10_000})
    assert len(str(caught.value)) < 700


# Values of a row, most of them wrong; the texts include lone surrogates.
TEXT = st.text(max_size=4) | st.text(st.characters(categories=["Cs"]), max_size=2)
LEAF = st.none() | st.booleans() | st.integers(-3, 4) | st.floats() | TEXT
NEAR = st.sampled_from([*LABELS, "+", "-", -1, 0, 1, True, False, None, "a", ""])
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
FIELD = VALUE | NEAR | st.lists(NEAR, max_size=3) | st.lists(TEXT, max_size=3)
NAMES = ("question", "problem", "steps", "label", "labels", "answer", "id", "other")


def _read(file):
    """The rows, or none where the user is told why; no other exception gets out."""
    try:
        return read_labelled(str(file))
    except UserError as error:
        assert str(error).startswith(str(file))
        return []


@given(st.dictionaries(st.sampled_from(NAMES), FIELD), st.booleans())
@example({}, True)
def test_only_a_user_error_escapes_from_any_values(file, fields, others_right):
    file.write_text(json.dumps({**ROW, **fields} if others_right else fields), encoding="utf-8")
    for row in _read(file):
        row.question.encode("utf-8")
        assert row.question.strip() == row.question != ""
        assert row.labels is None or row.steps is not None
        assert (row.valid is None) == (row.labels is None)
        assert row.valid is None or len(row.valid) == len(row.steps)
        assert hash(row) is not None
        assert row.valid is None or set(map(type, row.valid)) <= {bool, type(None)}


@given(st.binary(max_size=60) | st.text(string.printable, max_size=60).map(str.encode))
def test_only_a_user_error_escapes_from_any_bytes(file, content):
    file.write_bytes(content)
    _read(file)


@given(st.integers(0, 200), st.binary(max_size=3))
def test_only_a_user_error_escapes_from_a_damaged_row(file, place, damage):
    good = json.dumps(ROW).encode()
    file.write_bytes(good[:place] + damage + good[place + 1 :])
    _read(file)

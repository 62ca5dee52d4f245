"""Data files as people have them: packed, in other encodings, spread out, or no data at all."""

import bz2
import datetime
import gzip
import json
import lzma

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.files import file_splits, read_records

ROWS = [{"question": f"What is {n} + 0, é?", "answer": str(n), "id": n} for n in range(3)]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
WHOLE = {
    "plain": LINES.encode(),
    "gzip": gzip.compress(LINES.encode()),
    "bzip2": bz2.compress(LINES.encode()),
    "xz": lzma.compress(LINES.encode()),
    "utf-16": LINES.encode("utf-16"),
    "utf-16 without a mark": LINES.encode("utf-16-le"),
    "utf-16 big": LINES.encode("utf-16-be"),
    "utf-32": LINES.encode("utf-32"),
    "gzip of utf-16": gzip.compress(LINES.encode("utf-16")),
    "list": json.dumps(ROWS).encode(),
    "pretty list": json.dumps(ROWS, indent=2).encode(),
    "pretty objects": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "objects with commas": ",\n".join(json.dumps(row, indent=1) for row in ROWS).encode(),
    "windows": LINES.replace("\n", "\r\n").encode("utf-8-sig"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_is_read_whatever_it_is_packed_in(tmp_path, name):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(WHOLE[name])
    found = read_records(str(file), "train")
    assert [(r.question, r.answer, r.id) for r in found] == [
        (row["question"], row["answer"], str(row["id"])) for row in ROWS
    ]


def test_zstandard(tmp_path):
    zstandard = pytest.importorskip("zstandard", reason="reading .zst needs zstandard")
    (tmp_path / "train.jsonl.zst").write_bytes(zstandard.compress(LINES.encode()))
    assert len(read_records(str(tmp_path), "train")) == 3


@pytest.mark.parametrize(
    "content, message",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"PK\x03\x04rest", "a ZIP archive; unpack it"),
        (b"ARROW1\0\0", "an Arrow file; write it as Parquet or JSON Lines"),
        (b"<!DOCTYPE html>\n<html>", "a web page or XML, not JSON; download the file itself"),
        (gzip.compress(LINES.encode(), mtime=0)[:-20], "cannot be unpacked"),
        (b'\xff\xfe{\0"', "not utf-16"),
        (json.dumps(ROWS[0], indent=2).encode()[:-12], "rows.jsonl:1: not JSON"),
        (b'[\n{"question": "a", "answer": "b"},', "its list does not end"),
        (b"[\n1,\n2]", "rows.jsonl:2: int instead of an object"),
        (b'{\n"question": "\xff"}', "rows.jsonl:2: not UTF-8"),
        (b"question,answer\n1,2\n", "rows.jsonl:1: not JSON"),
    ],
)
def test_what_is_no_data_is_named_in_one_line(tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError, match="rows.jsonl") as error:
        read_records(str(tmp_path / "rows.jsonl"), "train")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_pointer_or_a_table_by_its_name(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha")
    (tmp_path / "a.csv").write_text("question,answer\n")
    for name, message in (("a.parquet", "git lfs pull"), ("a.csv", "write JSON Lines")):
        with pytest.raises(UserError, match=message):
            read_records(str(tmp_path / name), "train")


def test_of_a_parquet_file_only_the_needed_columns_are_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    import pyarrow.parquet as parquet

    day = datetime.datetime(2024, 1, 2)
    nanoseconds = pyarrow.array([1_704_153_600_000_000_001] * 3, pyarrow.timestamp("ns"))
    table = pyarrow.Table.from_pylist([row | {"id": day} for row in ROWS])
    parquet.write_table(table.append_column("made", nanoseconds), tmp_path / "rows.parquet")
    found = read_records(str(tmp_path / "rows.parquet"), "train")
    assert [r.answer for r in found] == ["0", "1", "2"] and found[0].id.startswith("2024-01-02")
    (tmp_path / "rows.parquet").rename(tmp_path / "rows.jsonl")  # known by how it begins
    assert len(read_records(str(tmp_path / "rows.jsonl"), "train")) == 3
    parquet.write_table(table.drop_columns(["answer"]), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"no field 'answer' among \['id', 'question'\]"):
        read_records(str(tmp_path / "b.parquet"), "train")


@pytest.mark.parametrize(
    "names, message",
    [
        (
            ("train.jsonl", "train_socratic.jsonl"),
            "not numbered shards of one: train.jsonl, train_",
        ),
        (("train.jsonl", "train.json"), "not numbered shards"),
        (("train.jsonl", "train.jsonl.gz"), "not numbered shards"),
        (("train.jsonl", "train-00000-of-00001.jsonl"), "not numbered shards"),
        (("train_1.jsonl", "train_01.jsonl"), "not numbered shards"),
        (("train_a_1.jsonl", "train_b_2.jsonl"), "not numbered shards"),
        (("train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"), "2 of 3 shards for 'train'"),
    ],
)
def test_several_files_of_a_split_are_refused(tmp_path, names, message):
    for name in names:
        data = LINES.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(UserError, match=message):
        read_records(str(tmp_path), "train")
    with pytest.raises(UserError, match="data.eval_path|of 3 shards"):
        for name in names:
            (tmp_path / name).rename(tmp_path / name.replace("train", "test"))
        read_records(str(tmp_path), "test")


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "test.jsonl"),
        ("train_1.jsonl", "train_2.jsonl"),
        ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"),
        ("train.0.jsonl.gz", "train.1.jsonl.gz"),
    ],
)
def test_numbered_shards_are_one_data_set(tmp_path, names):
    for name in names:
        data = LINES.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    own = [name for name in names if name.startswith("train")]
    assert len(read_records(str(tmp_path), "train")) == 3 * len(own)


def test_a_question_that_is_there_twice_is_said(tmp_path, caplog):
    file = tmp_path / "a.jsonl"
    rows = [{"question": f"q{n % 6}?", "answer": "1"} for n in range(10)]
    file.write_text("\n".join(map(json.dumps, rows)))
    splits = file_splits(str(file), "", 1, lambda record, number: record)
    assert len(splits["train"]) == 8
    assert "3 training questions are there before" in caplog.text


def test_an_address_is_no_file():
    with pytest.raises(UserError, match="s3://b/a.jsonl: expected a path on this machine"):
        read_records("s3://b/a.jsonl", "train")

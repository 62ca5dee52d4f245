"""SWE-bench: patches in responses, read and applied; predictions in the harness's form."""

import json

import pytest

from gccpo_jax.evaluation.predictions import FILE, write_predictions
from gccpo_jax.tasks import load_task
from gccpo_jax.tasks.code.patches import apply, parse, patch_in

PATCH = """diff --git a/m/x.py b/m/x.py
index 1..2 100644
--- a/m/x.py
+++ b/m/x.py
@@ -2,3 +2,4 @@ def f():
 b
-c
+C
+cc
 d
--- /dev/null
+++ b/new.txt
@@ -0,0 +1 @@
+hello
"""
FILES = {"m/x.py": "0\na\nb\nc\nd\ne\n"}
ROW = {"instance_id": "o__r-1", "repo": "o/r", "problem_statement": "It fails.", "files": FILES}


def test_a_patch_is_found_read_and_applied_where_its_lines_are():
    response = f"Here it is:\n```diff\n{PATCH}```\nDone."
    assert patch_in(response) == PATCH == patch_in("text\n" + PATCH)
    assert patch_in("no patch") == ""
    assert apply(parse(PATCH), FILES) == {
        "m/x.py": "0\na\nb\nC\ncc\nd\ne\n",
        "new.txt": "hello\n",
    }


@pytest.mark.parametrize(
    "patch, why",
    [
        ("", "no file in it"),
        ("@@ -1 +1 @@\n-a\n+b\n", "a hunk of no file"),
        ("--- a/x\n@@ -1 +1 @@\n", "expected '\\+\\+\\+"),
        ("--- a/x\n+++ b/x\n", "without a hunk"),
        ("--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n", "shorter than it says"),
        ("--- a/x\n+++ b/x\n@@ -1,2 +1,1 @@\n-a\n b\n c\n", None),
    ],
)
def test_what_is_no_patch_says_where(patch, why):
    if why is None:
        assert len(parse(patch)[0].hunks[0].old) == 2
        return
    with pytest.raises(ValueError, match=why):
        parse(patch)


def test_a_hunk_that_moved_is_put_at_the_nearest_place():
    text = "x\n" * 3 + "a\nb\n" + "x\n" * 5 + "a\nb\n"
    patch = "--- a/f\n+++ b/f\n@@ -{},2 +{},2 @@\n a\n-b\n+c\n"
    for line, first in [(2, True), (9, False), (99, False)]:
        found = apply(parse(patch.format(line, line)), {"f": text})["f"]
        assert (found.index("c") < 10) == first, line


def test_other_lines_and_missing_files_do_not_apply():
    with pytest.raises(ValueError, match="no such lines"):
        apply(parse(PATCH), {"m/x.py": "other\n"})
    with pytest.raises(ValueError, match="no such file"):
        apply(parse(PATCH), {})


def test_predictions_are_in_the_form_of_the_harness(tmp_path):
    file = tmp_path / "swe.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | {"text": "All of it"}) + "\n")
    task = load_task("swe_bench", "", str(file))
    items = task.splits["id"]
    assert "It fails." in task.prompt(items[0]) and task.prompt(items[1]) == "All of it\n"
    assert task.verify(items[0], PATCH) is None
    pairs = zip((PATCH, "none"), items, strict=True)
    rows = [{"name": "o__r-1", "id": one.id, "greedy": {"text": text}} for text, one in pairs]
    said = write_predictions(tmp_path, rows, items[::-1], "me", task.harness)
    assert said.startswith(f"{FILE}: 1 of 2 patches can be read, 1 of 1") and "harness" in said
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    keys = {"instance_id", "model_name_or_path", "model_patch"}
    assert [{*line} for line in lines] == [keys, keys]
    assert lines[0]["model_patch"] == PATCH and lines[1]["model_patch"] == ""

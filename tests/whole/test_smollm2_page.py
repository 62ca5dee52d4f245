"""The page of the SmolLM2 runs says what their results say."""

import json
import runpy

from tests.helpers.paths import ROOT

RUNS = runpy.run_path(str(ROOT / "benchmarks" / "smollm2.py"))


def test_its_tables_and_answers_are_those_of_the_results():
    found = json.loads((ROOT / "docs" / "results" / "smollm2.json").read_text())
    page = (ROOT / "docs" / "smollm2.md").read_text()
    assert RUNS["accuracies"](found["outcomes"]) in page
    assert RUNS["cost"](found["updates"]) in page
    assert RUNS["read_by_people"](found) in page

"""Model folders with one thing wrong each: all rows of the table, made anew."""

import sys

import pytest

from tests.helpers.paths import SCRIPTS

pytest.importorskip("gguf")
sys.path.append(str(SCRIPTS / "faults"))
import model_folders
import tiny_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_model.make(tmp_path_factory.mktemp("models") / "whole")


@pytest.mark.parametrize("case", model_folders.CASES, ids=lambda case: case.name)
def test_it_loads_or_is_refused_as_the_table_says(case, whole, tmp_path):
    assert model_folders.outcome(case, whole, tmp_path) == ""


def test_the_table_has_60_rows_of_names_of_their_own():
    names = [case.name for case in model_folders.CASES]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(
    ("make", "expected", "why"),
    [
        (model_folders.other_head, model_folders.Loads(), "tied is False"),
        (model_folders.old_beside, model_folders.Loads(), "warnings"),
        (model_folders.config(hidden_act="gelu"), model_folders.Loads(), "hidden_act='gelu'"),
        (model_folders.stale_index, ("stale",), "it loads"),
        (model_folders.remove("config.json"), ("another",), "is not said"),
    ],
)
def test_a_row_that_is_otherwise_is_seen(make, expected, why, whole, tmp_path):
    case = model_folders.Case("x", make, expected)
    assert why in model_folders.outcome(case, whole, tmp_path)

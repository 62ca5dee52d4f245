"""From raw results to the page: known effects are found, nothing depends on the day."""

import json

import numpy as np
import pytest

from gccpo_jax.study import __main__ as command
from gccpo_jax.study import results, summary, tables
from tests.study import simulated


def chance(arm, split, share):
    """All start at .3; the method gains .3 where the label does not help, nothing elsewhere."""
    cue_free = split in ("label_wrong", "label_absent")
    return 0.3 + share * (0.3 if arm == "A7" and cue_free else 0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    file = simulated.write(folder / "results.jsonl", simulated.study(confirms=True), chance)
    assert command.main(["--tables", str(file), "--out", str(folder / "out")]) == 0
    return folder


def test_the_summary_has_the_contrasts_with_their_intervals(made):
    found = json.loads((made / "out/study.json").read_text())
    assert found["confirmation_seeds"] == [3, 5] and found["method"] == "A7"
    assert set(found["contrasts"]) == {"method-A0", "method-A2", "A2-A0"}
    assert set(found["contrasts"]["method-A0"]) == set(simulated.SPLITS)
    row = found["contrasts"]["method-A0"]["label_wrong"]
    # The same item is right in both arms wherever its coin is below both chances.
    assert row["estimate"] == pytest.approx(0.3, abs=0.1)
    assert 0 < row["low"] < row["estimate"] < row["high"] < 1
    assert row["p"] < 0.05 and row["p"] <= row["p_holm"] and row["equivalence"] > 0.9
    assert row["probability_of_improvement"] == 1
    none = found["contrasts"]["method-A0"]["ood_depth"]
    assert (none["estimate"], none["p"]) == (0, 1)
    assert none["equivalence"] < 0.05, "no difference in any place"
    assert found["contrasts"]["A2-A0"]["label_wrong"]["estimate"] == 0


def test_both_budgets_are_reported(made):
    found = json.loads((made / "out/study.json").read_text())
    assert found["compared_at"] == "equal tokens"
    cost = found["cost"]
    assert cost["equal updates"]["A0"] == {"tokens": 4, "updates": 4}
    assert cost["equal updates"]["A7"] == {"tokens": 20, "updates": 4}
    assert cost["equal tokens"]["A0"] == {"tokens": 20, "updates": 20}
    assert cost["equal tokens"]["A7"] == cost["equal updates"]["A7"]
    page = (made / "out/study.md").read_text()
    for heading in ("A7-A0 at equal tokens", "A7-A0 at equal updates", "Cost and interquartile"):
        assert heading in page


def test_accuracies_are_also_given_by_wording_and_before(made):
    found = json.loads((made / "out/study.json").read_text())["accuracy"]["equal tokens"]["A7"]
    assert {"label_wrong, wording 0", "label_wrong, wording 1"} <= set(found)
    parts = [found[f"label_wrong, wording {n}"]["estimate"] for n in (0, 1)]
    assert np.mean(parts) == pytest.approx(found["label_wrong"]["estimate"])
    assert found["label_wrong"]["before"] == pytest.approx(0.3, abs=0.1)
    assert found["label_wrong"]["low"] < found["label_wrong"]["estimate"]


def test_curves_end_where_the_tokens_end(made):
    curve = json.loads((made / "out/study.json").read_text())["curves"]["A0"]
    assert [point["updates"] for point in curve] == [0, 10, 20]
    assert [point["tokens"] for point in curve] == [0, 10, 20]
    assert set(curve[0]["families"]) == {"id", "label_wrong", "label_absent"}


def test_every_plot_of_the_page_is_written(made):
    page = (made / "out/study.md").read_text()
    for name in tables.PLOTS:
        assert f"({name}.png)" in page
        assert (made / f"out/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_a_function_of_the_results_and_keeps_what_people_wrote(made, tmp_path):
    page = made / "out/study.md"
    page.write_text(page.read_text() + "\n## What it means\n\nMuch.\n")
    before = page.read_text(), (made / "out/study.json").read_text()
    file = made / "results.jsonl"
    assert command.main(["--tables", str(file), "--out", str(made / "out")]) == 0
    assert (page.read_text(), (made / "out/study.json").read_text()) == before


def test_one_comparison_alone_makes_a_page(tmp_path):
    plan = simulated.study(matched=False, pairs=())
    found = summary.summarise(
        results.read_results(simulated.write(tmp_path / "r.jsonl", plan, chance, items=24))
    )
    assert found["compared_at"] == "equal updates" and found["confirmation_seeds"] == []
    assert "at equal tokens" not in tables.tables(found)


def test_a_question_that_could_not_be_scored_counts_in_no_arm():
    scores = np.array([[1.0, np.nan, 0.0]]), np.array([[1.0, 1.0, np.nan]])
    (a, b), templates = results.paired(*scores, templates=["x", "y", "z"])
    assert (a.tolist(), b.tolist(), templates) == ([[1.0]], [[1.0]], ["x"])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rows: rows[1:], "no plan in it"),
        (lambda rows: [r for r in rows if r.get("seed") != 5], "no cell of arm and seed"),
        (lambda rows: [*rows, {"no": "kind"}], "no field 'kind'"),
        (lambda rows: [{**rows[0], "method": "A9"}, *rows[1:]], "there is no arm 'A9'"),
    ],
)
def test_results_that_do_not_fit_are_named(tmp_path, capsys, change, message):
    rows = change(list(simulated.lines(simulated.study(), chance, items=12)))
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command.main(["--tables", str(file), "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err

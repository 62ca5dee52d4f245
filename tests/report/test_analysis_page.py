"""The page of an analysis holds what was measured, with its intervals, and trusts no text."""

import dataclasses

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.report import read_analysis
from gccpo_jax.report.__main__ import main
from gccpo_jax.report.analysis_page import render
from tests.helpers.analysed import rows, step, trajectory, write_analysis
from tests.helpers.recorded import HOSTILE, write_run
from tests.report.test_page import Elements


def page_of(tmp_path, given, **options):
    return render(read_analysis(write_analysis(tmp_path / "out", given)), **options)


def test_rows_come_back_as_they_were_written(tmp_path):
    found = read_analysis(write_analysis(tmp_path / "out", rows()))
    assert list(found.trajectories) == rows()
    assert found.gate == 0.75 and found.summary["trajectories"] == 5 and found.name == "out"
    with (tmp_path / "out/trajectories.jsonl").open("a") as file:
        file.write('{"id": "9", "quest')  # is being written
    assert len(read_analysis(tmp_path / "out").trajectories) == 5


def test_a_step_shows_its_effect_intervals_laws_and_arms(tmp_path):
    found = Elements(page_of(tmp_path, rows()))
    for words in ("D +0.50 [+0.20, +0.70]", "R 0.90 [0.80, 1.00] S -- Q 0.36", "D −0.50 [−0.75"):
        assert words in found.text, words
    for words in ("Phi 0.25 [0.10, 0.50] → 0.75 [0.50, 0.90]", "answers right at once 0.7"):
        assert words in found.text, words
    assert "label: wrong" in found.text and "Ana 3 + 4 = 8 pens" in found.text
    widths = [float(bar["width"]) for bar in found.of("rect")]
    assert widths[:6] == [30, 70, 40, 20, 30, 10]  # before the first step, and after it
    assert widths[6:12] == [70, 60, 20, 30, 10, 10]  # beside the law under noise
    lines = [line for line in found.of("line") if line["x1"] == "6.0"]
    assert (lines[0]["y1"], lines[0]["y2"]) == ("34.8", "22.0")  # Phi before, 0.1 to 0.5
    assert "5 trajectories of 4 questions; accuracy 0.75" in found.text
    assert "0.125 (7)" not in found.text and "label valid" in found.text


def test_trajectories_are_marked_by_what_their_steps_did(tmp_path):
    cards = Elements(page_of(tmp_path, rows())).of("article")
    assert [card["data-marks"] for card in cards] == [
        "decisive", "harmful lucky", "sound-but-wrong", "unscorable", "decisive unreadable",
    ]  # fmt: skip


def test_text_of_a_model_is_never_markup(tmp_path):
    said = dict.fromkeys(("question", "answer", "gold"), HOSTILE)
    steps = [dataclasses.replace(step(HOSTILE), label=HOSTILE)]
    hostile = trajectory("0", candidates=[HOSTILE, "9"], steps=steps, **said)
    found = Elements(page_of(tmp_path, [hostile]))
    assert len(found.of("script")) == 1 and not found.of("img")
    assert found.text.count(HOSTILE) >= 6


def test_the_command_makes_it_and_says_what_cannot_be(tmp_path, capsys):
    out = write_analysis(tmp_path / "out", rows(), ended=False)
    assert main([str(out)]) == 0
    assert "5 trajectories recorded" in capsys.readouterr().out
    assert "not ended" in (out / "report.html").read_text()
    assert main([str(out), str(write_run(tmp_path / "run", []))]) == 2
    assert "an analysis has a page of its own" in capsys.readouterr().err
    lines = (out / "trajectories.jsonl").read_text()
    (out / "trajectories.jsonl").write_text(lines.replace('"law_before"', '"law"'))
    with pytest.raises(UserError, match="damaged .*law_before.* analyse it again"):
        read_analysis(out)

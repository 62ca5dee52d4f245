"""The page holds what was recorded, is whole, and takes no text for markup."""

import base64
import dataclasses
import hashlib
import html.parser
import re

import pytest

from gccpo_jax.report.__main__ import main
from gccpo_jax.report.page import against, render
from gccpo_jax.report.read import read_run
from tests.helpers.recorded import HOSTILE, group, metric_rows, step, trajectory, write_run


class Elements(html.parser.HTMLParser):
    """Start tags with their attributes, and the text between."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def page_of(tmp_path, rows, **options):
    return render([read_run(write_run(tmp_path / "run", rows))], **options)


def test_a_step_shows_its_credit_laws_arms_and_branches(tmp_path):
    found = Elements(page_of(tmp_path, group()))
    for words in ("A +0.50", "A −0.25", "D +0.50", "R 0.90", "S 0.40", "Q 0.36", "Phi 0.25"):
        assert words in found.text, words
    for words in ("before: 4 draws; after: 2 draws", "corrupt", "Ana 3 + 4 = 8 pens", "latent"):
        assert words in found.text, words
    assert "unscorable, says 9" in found.text and "checker: valid" in found.text
    widths = [float(bar["width"]) for bar in found.of("rect")]
    assert widths[:3] == [70, 20, 10]  # after the first step, before which no law was read
    assert widths[3:9] == [70, 60, 20, 30, 10, 10]  # beside the law under noise
    titles = [span["title"] for span in found.of("span") if "title" in span]
    assert titles[0] == "A +0.50, log-prob -0.5, entropy 0.7"
    assert all(span["tabindex"] == "0" for span in found.of("span") if "title" in span)


def test_trajectories_are_marked_by_what_went_wrong(tmp_path):
    cards = Elements(page_of(tmp_path, group())).of("article")
    marks = [card["data-marks"].split() for card in cards]
    assert marks[0] == [] and marks[1] == ["lucky"]
    assert marks[2] == ["sound-but-wrong", "disagree"]  # wrong, and its tokens are pushed up
    assert marks[3:] == [["truncated"], ["unscorable"]]


def test_disagreement_is_credit_against_the_groups_mean_outcome():
    rows = [trajectory(0, (1.0,)), trajectory(1, (-1.0,)), trajectory(2, (0.5,), outcome=0.0)]
    assert against(rows) == {(1, 0, 1), (1, 0, 2)}
    assert against([trajectory(0, (-1.0,)), trajectory(1, (1.0,))]) == set()  # no contrast


def test_curves_of_several_runs_are_overlaid_and_their_numbers_written(tmp_path):
    first = read_run(write_run(tmp_path / "first", group()))
    second = read_run(write_run(tmp_path / "second", [], metric_rows(lift=0.1)))
    found = Elements(render([first, second]))
    figures = [svg for svg in found.of("svg") if svg.get("role") == "img"]
    assert figures[0]["aria-label"] == "eval/id from step 0 to 12, between 0.3 and 0.64"
    lines = [line for line in found.of("polyline") if "line" in line.get("class", "").split()]
    assert {"line run0", "line run1"} <= {line["class"] for line in lines}
    assert "first 0.3 → 0.54" in found.text and "second 0.4 → 0.64" in found.text
    assert "warnings in 1 steps: 3" in found.text
    assert "sample0.50.5" in re.sub(r"\s", "", found.text)  # stage seconds, a column per run


def test_text_of_a_model_is_never_markup(tmp_path):
    said = dict.fromkeys(("question", "text", "answer", "gold"), HOSTILE)
    steps = (step(HOSTILE, labels=(HOSTILE,)),)
    hostile = trajectory(steps=steps, candidates=(HOSTILE, "9"), **said)
    tokens = dataclasses.replace(hostile.tokens, text=(HOSTILE,) * 4)
    rows = [dataclasses.replace(hostile, tokens=tokens)]
    found = Elements(page_of(tmp_path, rows))
    assert len(found.of("script")) == 1 and not found.of("img")
    assert found.text.count(HOSTILE) >= 6  # as text
    labels = [span["aria-label"] for span in found.of("span") if "aria-label" in span]
    assert labels[0].startswith(HOSTILE)


def test_the_page_is_whole_and_says_so_in_its_policy(tmp_path):
    page = page_of(tmp_path, group())
    found = Elements(page)
    outside = {"src", "href", "srcset", "action", "style", "onclick", "onload", "data"}
    named = [(tag, attrs) for tag, attrs in found.tags if outside & attrs.keys()]
    assert [attrs["href"] for _, attrs in named] == ["#questions"]
    policy = next(meta["content"] for meta in found.of("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_a_page_that_grows_too_large_keeps_the_latest_steps(tmp_path):
    rows = [row for at in range(1, 9) for row in group(at=at)]
    run = read_run(write_run(tmp_path / "run", rows))
    one = len(render([run]).encode()) - len(render([run], most_bytes=0).encode())
    page = render([run], most_bytes=one // 2)
    assert "Step 8, question" in page and "Step 1, question" not in page
    assert "questions of earlier steps are left out" in page


def test_the_command_writes_the_page_and_refuses_in_one_line(tmp_path, capsys):
    workdir = write_run(tmp_path / "run", group())
    assert main([str(workdir)]) == 0
    assert "5 trajectories recorded" in capsys.readouterr().out
    assert (workdir / "report.html").read_text().startswith("<!doctype html>")
    assert main([str(workdir), "--out", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_bytes() == (workdir / "report.html").read_bytes()
    for argv in ([str(tmp_path)], [str(workdir), "--out", str(tmp_path / "no/where.html")], []):
        assert main(argv) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("steps", [None, ()])
def test_credit_by_outcome_has_text_and_no_steps(tmp_path, steps):
    rows = [trajectory(steps=steps, candidates=None)]
    assert "Ana 3 + 4 = 7 pens" in page_of(tmp_path, rows) or steps == ()

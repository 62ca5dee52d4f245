"""The terminal browser: every key does what it says, and text of a model stays text."""

import asyncio
import dataclasses

import pytest

from gccpo_jax import view
from gccpo_jax.report.entries import entries_of
from gccpo_jax.training.rollout_record import Branch
from tests.helpers.analysed import rows, write_analysis
from tests.helpers.recorded import HOSTILE, group, step, trajectory, write_run

ESCAPES = "\x1b[2J\x1b]0;taken\x07[bold red]x[/]\u202eabc" + HOSTILE


@pytest.fixture
def workdir(tmp_path):
    last = dataclasses.replace(step(ESCAPES), branches=(Branch("so 9\n#### 9\n", "9", 0.0),))
    hostile = trajectory(5, steps=(last,), question=ESCAPES, text=ESCAPES, answer=ESCAPES, row=1)
    return write_run(tmp_path / "run", [*group(), hostile])


def test_an_entry_says_what_was_read_and_escapes_what_was_written(workdir):
    entries = entries_of(workdir).rows
    first = entries[0].body(False).plain
    for words in ("A +0.50", "D +0.50  R 0.90  S 0.40  Q 0.36", "Phi 0.25 -> 0.75", "0.70"):
        assert words in first, words
    assert "under corrupt" not in first and "under corrupt" in entries[0].body(True).plain
    assert "branch, unscorable: #### 9" in entries[0].body(True).plain
    hostile = entries[-1].body(True).plain
    assert "\\x1b[2J\\x1b]0;taken\\x07[bold red]x[/]\\u202eabc" in hostile
    assert "branch, scored 0: so 9\n    #### 9\n" in hostile
    assert not {"\x1b", "\x07", "\u202e"} & set(hostile)


def test_an_analysis_is_read_the_same_way(tmp_path):
    entries = entries_of(write_analysis(tmp_path / "out", rows())).rows
    assert "D +0.50 [+0.20, +0.70]  R 0.90 [0.80, 1.00]" in entries[0].body(False).plain
    assert entries[1].marks == ("harmful", "lucky") and len(entries) == 5


def test_without_a_terminal_it_prints_and_refuses_in_a_line(workdir, tmp_path, capsys):
    assert view.main([str(workdir)]) == 0
    out = capsys.readouterr().out
    assert "step 1 q12 t1: right" in out and "\x1b" not in out and "[bold red]x[/]" in out
    assert view.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.filterwarnings("ignore")  # textual's and asyncio's own
def test_every_key_does_what_it_says(workdir):
    pytest.importorskip("textual", reason="needs the extra `view`")
    from gccpo_jax.report.browse import Browser

    async def use():
        app = Browser(entries_of(workdir))
        text = lambda: str(app.query_one("#text").render())  # noqa: E731
        at = lambda: app.query_one("#list").highlighted  # noqa: E731
        async with app.run_test(size=(120, 40)) as pilot:
            assert len(app.shown) == 6 and at() == 0 and "credit +0.50" in text()
            await pilot.press("j", "j", "k")
            assert at() == 1
            await pilot.press("k", "k")
            assert at() == 0  # the first one stays
            await pilot.press("i")
            assert "under latent" in text()
            await pilot.press("i", "f")
            assert [entry.marks for entry in app.shown] == [("lucky",)]
            assert "right, but a step is flawed; 1 of 6" in app.sub_title
            await pilot.press("escape", "slash", *"sound", "comma", "space", *"wrong")
            assert len(app.shown) == 1 and app.shown[0].title.endswith("t2: wrong")
            await pilot.press(*"qq")  # letters, here
            assert text() == "nothing here"
            await pilot.press("escape", *["j"] * 5)
            await pilot.pause()
            assert at() == 5 and "\\x1b[2J" in text() and "[bold red]x[/]" in text()
            assert "\x1b" not in text()
            await pilot.press("q")
        assert not app.is_running

    asyncio.run(use())

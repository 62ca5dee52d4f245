"""What a terminal shows of a run that goes on, and that a model cannot write to it."""

import io
import re

from rich.console import Console

from gccpo_jax.runtime.completions import Completion
from gccpo_jax.runtime.live_view import LiveView
from gccpo_jax.runtime.log import RunLog
from gccpo_jax.runtime.terminal import plain, sparkline

ESCAPES = "\x1b[2J\x1b]0;taken\x07[bold red]x[/]\u202eabc"
SAMPLE = Completion(
    step=2,
    question_id=12,
    question=ESCAPES,
    text="7 + 1 = 9\n#### 9",
    answer="9",
    gold="8",
    outcome=0.0,
    reward=0.0,
    advantage=-1.0,
    pieces=(("7 + 1 = 8\n", 0.25), (ESCAPES + "\n", -1.0)),
)


def drawn(view, console):
    console.print(view.view())
    return console.file.getvalue()


def test_it_shows_how_far_where_to_and_a_sample():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system="truecolor")
    view = LiveView(console, 4, 0)
    for step, accuracy in enumerate((0.25, 0.5, 1.0), 1):
        view.step(step, {"accuracy": accuracy, "tokens_per_second": 300.0}, "loss 0.1")
    view.sample(SAMPLE)
    shown = drawn(view, console)
    for words in ("3/4", "loss 0.1", "accuracy", "▁▃█", "tokens/s", "300", "12: wrong"):
        assert words in shown, words
    assert re.search(r"[\d-]:[\d-]{2}:[\d-]{2}", shown)  # time left
    assert "kl" not in shown and "reward" not in shown  # the run has none
    assert "▲ +0.25" in shown and "▼ −1.00" in shown  # not by colour alone
    assert "48;2;117;49;29" in shown  # the most negative shade
    assert "\\x1b[2J\\x1b]0;taken\\x07[bold red]x[/]\\u202eabc" in shown
    assert not {"\x07", "\u202e"} & set(shown) and "\x1b[2J" not in shown


def test_a_long_sample_is_cut():
    console = Console(file=io.StringIO(), width=60)
    view = LiveView(console, 4, 0)
    many = Completion(**{**vars(SAMPLE), "pieces": (("line\n" * 99, 1.0),)})
    view.sample(many)
    assert "... 87 lines more" in drawn(view, console)


def test_letters_and_lines():
    assert plain("é\t日本\n") == "é   日本\n" and plain("\r\x9b\u200b") == "\\r\\x9b\\u200b"
    assert sparkline([1.0, 1.0]) == "▄▄" and sparkline([]) == "" and sparkline([None]) == " "
    assert sparkline([9.0, 0.0, float("nan"), 1.0], 3) == "▁ █"


def test_a_run_is_lines_without_a_terminal_and_live_in_one(tmp_path, capsys, monkeypatch):
    for where, force in (("lines", False), ("live", True)):
        if force:
            monkeypatch.setenv("FORCE_COLOR", "1")
        (tmp_path / where).mkdir()
        log = RunLog(tmp_path / where, 2, False)
        log.completions(1, [SAMPLE])
        log.step(1, {"accuracy": 0.5}, "accuracy 0.50")
        log.say("a line above")
        log.close()
        shown = capsys.readouterr().out
        assert ("step 1/2  accuracy 0.50\na line above\n" == shown) != force
        assert ("12: wrong" in shown and "1/2" in shown and "a line above" in shown) or not force
        assert "\x1b[2J" not in shown

"""Chat templates: the same on any day, with arguments that are read, errors in one line."""

import sys

import pytest

from gccpo_jax import analyse
from gccpo_jax.config import DataConfig, default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.policy.chat_template import DATE, Template
from gccpo_jax.policy.tokenizer import load_tokenizer
from gccpo_jax.runtime.cli import set_field
from tests.helpers.paths import SCRIPTS

sys.path.append(str(SCRIPTS / "faults"))
import tiny_model

TURN = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
TODAY = "{{ strftime_now('%d %b %Y') if strftime_now is defined else '?' }}"
THINKING = TURN + "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}"
CHOICE = TURN + "{{ effort | default('low') }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("chat") / "tokenizer"
    tiny_model.write_tokenizer(path)
    return path


def loaded(folder, template, arguments=None, date=DATE):
    tiny_model.fields(folder, "tokenizer_config.json", chat_template=template)
    return load_tokenizer(folder, Template(arguments or {}, date))


def text(tokenizer, system=None):
    return tokenizer.decode(tokenizer.render("q", system))


def refused(tokenizer, *words, check=True):
    with pytest.raises(UserError) as error:
        if check:
            tokenizer.template.check(tokenizer.backend, True, None)
        tokenizer.render("q", "be brief")
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("call", [TODAY, '{{ strftime_now ( "%d %b %Y" ) }}'])
def test_the_date_is_that_of_the_run_on_any_day(folder, call):
    assert text(loaded(folder, TURN + call)) == "[user]q26 Jul 2024"
    tokenizer = loaded(folder, TURN + call, date="2031-02-03")
    assert text(tokenizer) == "[user]q03 Feb 2031"
    tokenizer.template.check(tokenizer.backend, True, None)


def test_a_clock_that_cannot_be_fixed_is_refused(folder):
    refused(loaded(folder, "{% set f = '%H' %}{{ strftime_now(f) }}"), "cannot be fixed")


def test_a_date_that_no_template_asks_for_is_refused(folder):
    refused(loaded(folder, TURN, date="2031-02-03"), "data.date = '2031-02-03'")
    assert DataConfig().date == DATE
    for day in ("26 Jul 2024", "20240726", "2024-02-30", ""):
        config = default()
        config.data.date = day
        with pytest.raises(UserError, match="config.data.date"):
            freeze(config)


def test_arguments_reach_the_template(folder):
    for value, expected in ((True, "[user]q"), (False, "[user]q<no>")):
        tokenizer = loaded(folder, THINKING, {"enable_thinking": value})
        tokenizer.template.check(tokenizer.backend, True, None)
        assert text(tokenizer) == expected
    tokenizer = loaded(folder, CHOICE, {"effort": "low"})  # its default is read all the same
    tokenizer.template.check(tokenizer.backend, True, None)


@pytest.mark.parametrize("name", ["thinking", "tokenize", "tools", "messages", "a b", "template"])
def test_arguments_that_are_not_read_are_refused(folder, name):
    refused(loaded(folder, THINKING, {"enable_thinking": False, name: True}), name)


def test_several_templates(folder):
    several = [{"name": name, "template": name + TURN} for name in ("rag", "tools")]
    refused(loaded(folder, several), "'default'", "data.template.template", "'rag', 'tools'")
    assert text(loaded(folder, several, {"template": "rag"})) == "rag[user]q"
    refused(loaded(folder, several, {"template": "x"}), "'x'")
    with_default = [*several, {"name": "default", "template": TURN}]
    assert text(loaded(folder, with_default)) == "[user]q"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{% for %}", "Expected"),
        ("{{ messages[7]['content'] }}", "no element 7"),
        ("{{ messages + 1 }}", "concatenate"),
        ("{{ 'x' | no_filter }}", "no_filter"),
    ],
)
def test_what_a_template_raises_is_one_line_with_its_own_words(folder, template, words):
    refused(loaded(folder, template), "chat template", words, "chat=False")


def test_arguments_from_the_command_line():
    config = default()
    set_field(config, "data.template.enable_thinking", "false")
    set_field(config, "data.template.effort", "high")
    set_field(config, "data.template.budget", "3")
    found = freeze(config).data.template
    assert found == {"enable_thinking": False, "effort": "high", "budget": 3}
    with pytest.raises(UserError, match="a.b"):
        set_field(config, "data.template.a.b", "1")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--template", "{"), "--template {: not JSON"),
        (("--template", "[1]"), "expected an object"),
        (("--template", '{"x": 1}'), "data.template = {'x': 1}"),  # the task has no chat
        (("--date", "tomorrow"), "--date tomorrow"),
    ],
)
def test_an_analysis_has_the_same_arguments(flags, words, tmp_path, capsys):
    (tmp_path / "q.jsonl").write_text('{"question": "1 + 1?"}\n')
    data = ("--data", str(tmp_path / "q.jsonl"), "--out", str(tmp_path / "out"))
    assert analyse.main([*data, *flags]) == 2
    assert words in capsys.readouterr().err
    assert analyse.main(["--suite", "chain", *flags]) == 2

"""Talking to a model: piped lines in, answers out; conversations that outgrow the context."""

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gccpo_jax import chat
from gccpo_jax.errors import UserError
from gccpo_jax.policy.chat_template import Template
from tests.helpers.processes import environment

ASK = "Ana has 3 pens . Ana puts in {} pens . How many pens does Ana have ?"


@pytest.mark.slow
def test_piped_lines_are_answered_one_by_one(tmp_path):
    lines = [ASK.format(4), "", "/new", ASK.format(5), "/exit", ASK.format(6)]
    found = subprocess.run(
        [sys.executable, "-m", "gccpo_jax.chat", "--model", "tiny", "--temperature", "0"],
        input="\n".join(lines), cwd=tmp_path, env=environment(), text=True, capture_output=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    answers = [line for line in found.stdout.splitlines() if line.startswith("#### ")]
    assert len(answers) == 2 and ">" not in found.stdout


def test_mistakes_are_said_in_one_line(capsys):
    for words, message in (
        (["--temperature", "-1"], "--temperature -1.0: expected at least 0"),
        (["--top-p", "0"], "--top-p 0.0: expected above 0"),
        (["--seed", str(2**32)], "--seed 4294967296: expected a number below 2**32"),
        (["--max-tokens", "0"], "--max-tokens 0: expected at least 1"),
        (["--template", "[]"], "--template"),
    ):
        assert chat.main(["--model", "tiny", *words]) == 2
        assert message in capsys.readouterr().err


class Words:
    """A tokenizer whose tokens are characters, with a chat template of its own."""

    chat_template = "{{ messages }}"

    def apply_chat_template(self, messages, **_):
        return "".join(message["role"][0] + message["content"] for message in messages) + "a"

    def encode(self, text, add_special_tokens):
        return list(text.encode())


def test_the_oldest_messages_are_forgotten_in_pairs():
    model = SimpleNamespace(context=20, solver=SimpleNamespace(tokenizer=SimpleNamespace()))
    model.solver.tokenizer.backend = Words()
    opening = [{"role": "system", "content": "S"}]
    said = [
        {"role": role, "content": text}
        for role, text in (("user", "12345"), ("assistant", "678"), ("user", "9"))
    ]
    tokens, kept = chat.fitting(model, Template(), opening, said, 5)
    assert bytes(tokens) == b"sSu12345a678u9a" and kept == said
    tokens, kept = chat.fitting(model, Template(), opening, said, 6)
    assert bytes(tokens) == b"sSu9a" and kept == said[2:]
    with pytest.raises(UserError, match="has 5 tokens; the model's context of 20 leaves 4"):
        chat.fitting(model, Template(), opening, said, 16)


def test_half_of_a_character_waits_for_its_other_half():
    tokenizer = SimpleNamespace(
        decode=lambda ids, skip_special: bytes(ids).decode(errors="replace")
    )
    assert list(chat.pieces(tokenizer, iter("né!".encode()))) == ["n", "é", "!", ""]


def test_a_sign_awaits_each_line_in_a_terminal():
    out = io.StringIO()
    assert list(chat.prompted(["a", "b"], out)) == ["a", "b"] and out.getvalue() == "> > > \n"

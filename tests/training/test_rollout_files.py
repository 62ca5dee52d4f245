"""Pieces of the record: token texts, labels per step, numbers that JSON can spell."""

import numpy as np
import pytest

from gccpo_jax.policy.tokenizer import load_tokenizer
from gccpo_jax.training.rollout_files import _labels_of, completion, numbers, token_texts
from tests.helpers.recorded import trajectory


@pytest.mark.parametrize("text", ["Ana 3 + 4 = 7 pens\n#### 7", ""])
def test_tokens_say_together_what_the_text_says(text):
    tokenizer = load_tokenizer("tiny")
    ids = [*tokenizer.encode(text), tokenizer.eos_id]
    found = token_texts(tokenizer, ids)
    assert len(found) == len(ids) and "".join(found) == tokenizer.decode(ids)
    assert all(found)  # the end is seen, too


def test_a_token_that_is_no_letter_alone_keeps_its_place():
    class Bytes:
        def decode(self, ids, skip_special=False):
            return bytes(ids).decode(errors="replace")

    found = token_texts(Bytes(), list("né".encode()))
    assert found[0] == "n" and len(found) == 3


def test_labels_go_with_the_lines_of_their_step():
    labels = ["valid", "filler", "valid"]
    assert _labels_of(["a\nb\n", "\n", "c"], labels, "\n") == [("valid", "filler"), (), ("valid",)]
    assert _labels_of(["a b"], labels, "\n") == [None]  # a step that a limit cut in a line
    assert _labels_of(["a\n"], None, "\n") == [None]


def test_what_json_cannot_spell_is_none():
    assert numbers(np.float32([np.nan, np.inf, 0.25, 1 / 3])) == (None, None, 0.25, 0.333333)


def test_a_completion_has_its_steps_or_all_of_its_text():
    of_steps = completion(trajectory())
    assert of_steps.pieces == (("Ana 3 + 4 = 7 pens\n", 0.5), ("Ana 3 + 4 = 7 pens\n", -0.25))
    assert of_steps.verdict == "right" and of_steps.advantage == 0.5
    by_outcome = completion(trajectory(steps=None, outcome=None))
    assert by_outcome.pieces == (("Ana 3 + 4 = 7 pens\n#### 7", 0.5),)
    assert by_outcome.verdict == "unscorable"

"""A chat model that verifies: the law of its verdict, with and without critiques."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.sampling.critic import open_critic
from tests.helpers.paths import ROOT

GOLDEN = ROOT / "tests" / "golden_scorers"
ROWS = json.loads((GOLDEN / "prm_tokens" / "critic.golden.json").read_text())
ASKED = [(row["question"], row["steps"]) for row in ROWS]


def test_verdicts_are_those_of_the_reference():
    found = open_critic(str(GOLDEN / "prm_tokens")).many(ASKED)
    for got, row in zip(found, ROWS, strict=True):
        np.testing.assert_allclose(got, row["scores"], atol=1e-5)
    assert np.ptp(np.concatenate(found)) > 0.005


def test_critiques_are_averaged_and_a_function_of_the_seed():
    plain = open_critic(str(GOLDEN / "prm_tokens"))
    short = dataclasses.replace(plain.verification, critiques=3, max_tokens=8)
    critic = dataclasses.replace(plain, verification=short)
    prompt = critic._prompt("q", ["1"])
    texts = critic._criticised([prompt])
    assert len(texts) == 3 and all(text[: len(prompt)] == prompt for text in texts)
    assert len({tuple(text) for text in texts}) == 3
    end = plain.scorer.tokenizer.encode(short.conclude)
    each = plain.scorer.read([(text + end, [len(text + end) - 1]) for text in texts])
    np.testing.assert_allclose(critic("q", ["1"]), np.mean(each), atol=1e-6)
    assert np.ptp(each) > 1e-4 and not np.allclose(critic("q", ["1"]), plain("q", ["1"]), atol=1e-5)


def test_what_is_no_critic_is_said(tmp_path):
    with pytest.raises(UserError, match="a model with a head is no critic; use 'prm:"):
        open_critic(str(GOLDEN / "prm_head"))
    own = tmp_path / "critic"
    shutil.copytree(GOLDEN / "prm_tokens", own)
    for found, words in (
        ({"ask": "{who}?"}, "ask has a place 'who'"),
        ({"critiques": -1}, "critiques = -1"),
        ({"max_tokens": 512}, "max_tokens = 512"),
    ):
        (own / "critic.json").write_text(json.dumps(found))
        with pytest.raises(UserError, match=words):
            open_critic(str(own))

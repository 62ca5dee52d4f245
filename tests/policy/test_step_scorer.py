"""Process reward models: the scores of PyTorch, what stands between steps."""

import json
import shutil

import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.policy.step_scorer import open_scorer
from tests.helpers.paths import ROOT

GOLDEN = ROOT / "tests" / "golden_scorers"


@pytest.mark.parametrize("layout", ["prm_head", "prm_tokens"])
def test_scores_are_those_of_the_reference(layout):
    scorer = open_scorer(str(GOLDEN / layout))
    rows = json.loads((GOLDEN / layout / "golden.json").read_text())
    found = scorer.many([(row["question"], row["steps"]) for row in rows])
    for got, row in zip(found, rows, strict=True):
        np.testing.assert_allclose(got, row["scores"], atol=1e-5)
    spread = np.concatenate(found)
    assert np.ptp(spread) > 0.05, "scores that tell nothing apart would test nothing"
    alone = scorer(rows[1]["question"], rows[1]["steps"])
    np.testing.assert_allclose(alone, rows[1]["scores"], atol=1e-5)


def test_what_cannot_be_scored_is_said(tmp_path, caplog):
    scorer = open_scorer(str(GOLDEN / "prm_tokens"))
    long, short = scorer.many([("q", ["7 " * 400, "8"]), ("q", [" 9\n"])])
    assert np.isnan(long).all() and not np.isnan(short).any()
    assert "1 solutions exceed the 512 tokens" in caplog.text
    sly = scorer("q", ["1 = 1 \u043a\u0438 +", "2"])  # a step that writes the mark itself
    np.testing.assert_allclose(sly, scorer("q", ["1 = 1  +", "2"]), atol=1e-6)

    own = tmp_path / "prm"
    shutil.copytree(GOLDEN / "prm_tokens", own)
    (own / "prm.json").write_text(json.dumps({"sep": "x"}))
    with pytest.raises(UserError, match="prm.json.sep: no such field"):
        open_scorer(str(own))

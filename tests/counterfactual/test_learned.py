"""Foretold values: the correction keeps the mean, coins depend on ids alone, a run with them."""

import jax
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.counterfactual.learned import coins, corrected
from tests.helpers.paths import ROOT
from tests.helpers.runs import metrics, small


def test_the_mean_over_the_coins_is_the_measured_value_whatever_is_foretold():
    random = np.random.default_rng(0)
    told, measured, share = random.random((1, 6)), random.random((1, 6)), 0.25
    drawn = np.asarray(coins(jax.random.split(jax.random.key(0), 64), 512, 6, share))
    assert drawn.mean() == pytest.approx(share, abs=0.003)
    found = corrected(told, measured, drawn.reshape(-1, 6), share).astype(np.float64)
    spread = np.abs(told - measured) * np.sqrt((1 - share) / share)  # of one correction
    np.testing.assert_allclose(found.std(0), spread[0], rtol=0.03)
    error = np.abs(found.mean(0) - measured[0]) / (spread[0] / np.sqrt(len(found)) + 1e-9)
    assert error.max() < 4, "biased"
    assert corrected(np.array(0.5), np.array(1.0), np.array(True), 0.25) == 2.5
    assert corrected(np.array(0.5), np.array(np.nan), np.array(True), 0.25) == 0.5
    assert corrected(np.array(np.nan), np.array(1.0), np.array(False), 0.25) == 1.0


def test_a_coin_is_of_its_question_and_trajectory():
    keys = jax.random.split(jax.random.key(1), 3)
    whole = np.asarray(coins(keys, 5, 8, 0.5))
    np.testing.assert_array_equal(coins(keys[1:2], 5, 8, 0.5), whole[1:2])
    assert 0.2 < whole.mean() < 0.8 and (whole[:, 0] != whole[:, 1]).any()


@pytest.mark.slow
def test_a_run_with_two_process_reward_models(tmp_path):
    """One foretells values, the other's scores are a stream of advantages."""
    changes = {
        "steps": 1,
        "reward__process": f"prm:{ROOT / 'tests' / 'golden' / 'prm_head'}",
        "credit__gate": False, "counterfactual__value": "learned",
        "counterfactual__scorer": str(ROOT / "tests" / "golden" / "prm_tokens"),
        **{f"counterfactual__{name}_arms": 0 for name in ("latent", "surface")},
    }  # fmt: skip
    train.train_and_evaluate(small(**changes), "small", tmp_path / "run")
    (row,) = metrics(tmp_path / "run")
    assert row["learned_error"] > 0 and row["grad_norm"] > 0
    assert 0 < row["process_score"] < 1

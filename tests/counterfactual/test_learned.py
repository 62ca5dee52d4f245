"""Foretold values: the correction keeps the mean, coins depend on ids alone, a run with them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual import read as reading
from gccpo_jax.counterfactual.learned import coins, corrected
from gccpo_jax.counterfactual.places import Places
from gccpo_jax.counterfactual.readers import Values
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.types import Spans
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


def test_a_reading_branches_where_the_coin_says_and_foretells_elsewhere(monkeypatch):
    """Four steps of a token each, cut in two: V is the scorer's word on steps 2 and 4."""
    shape = (1, 64)
    cut = lambda *ends: Spans(  # noqa: E731
        *(jnp.broadcast_to(jnp.asarray(x), (*shape, len(ends)))
          for x in ([0, *ends[:-1]], ends, [True] * len(ends)))
    )  # fmt: skip
    places = Places(cut(1, 2, 3, 4), cut(2, 4), np.full(shape, 4, np.int32))
    traces = SimpleNamespace(
        keys=jax.random.split(jax.random.key(0), 1),
        items=[SimpleNamespace(question="q")],
        tokens=np.tile(np.arange(4), (*shape, 1)),
        outcome=np.ones(shape, np.float32),
        scorable=np.ones(shape, bool),
        rollout=SimpleNamespace(segment=None),
    )
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special: "abcd"[ids[0]])
    solver = SimpleNamespace(tokenizer=tokenizer)
    seen = SimpleNamespace(traces=traces, solver=solver, cache=(None, None))
    words = {"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.9}
    scorer = SimpleNamespace(many=lambda rows: [np.array([words[x] for x in r]) for _, r in rows])
    asked = []

    def branches(writer, spans, section, drawn):
        asked.append(np.asarray(drawn))
        measured = np.where(drawn, 1.0, np.nan)  # none is continued elsewhere
        value = np.concatenate([measured, np.full((*shape, 1), np.nan)], -1).astype(np.float32)
        return lambda: Values(value, 7.0)

    monkeypatch.setattr(reading, "places_of", lambda *x: places)
    monkeypatch.setattr(reading, "begin_values", branches)
    monkeypatch.setattr(reading, "_energy", lambda *x: jnp.zeros((*shape, 2)))
    section = CounterfactualConfig(value="learned", scorer="prm", learned_share=0.25)
    given = (seen, seen, section, SegmentationConfig(), Stopwatch())
    found = reading.read(*given, laws=False, scorer=scorer)
    (drawn,) = asked
    value = np.asarray(found.reading.value)
    assert drawn.shape == (*shape, 1) and 4 < drawn.sum() < 32
    np.testing.assert_allclose(value[..., 0], np.where(drawn[..., 0], 0.5 + 4 * 0.5, 0.5))
    assert np.isnan(value[..., 1]).all() and found.metrics["learned_error"] == 0.25
    assert found.metrics["branch_tokens"] == 7.0


@pytest.mark.slow
def test_a_run_with_two_process_reward_models(tmp_path):
    """One foretells values, the other's scores are a stream of advantages."""
    changes = {
        "steps": 1,
        "reward__process": f"prm:{ROOT / 'tests' / 'golden_scorers' / 'prm_head'}",
        "credit__gate": False, "counterfactual__value": "learned",
        "counterfactual__scorer": str(ROOT / "tests" / "golden_scorers" / "prm_tokens"),
        **{f"counterfactual__{name}_arms": 0 for name in ("latent", "surface")},
    }  # fmt: skip
    train.train_and_evaluate(small(**changes), "small", tmp_path / "run")
    (row,) = metrics(tmp_path / "run")
    assert row["learned_error"] > 0 and row["grad_norm"] > 0
    assert 0 < row["process_score"] < 1

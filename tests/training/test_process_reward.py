"""Step scores from the user's function: how it is found, checked, and what becomes of it."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.config import RewardConfig, SegmentationConfig
from gccpo_jax.errors import UserError
from gccpo_jax.sampling.critic import Critic
from gccpo_jax.tasks.checking.user import load_function, load_process
from gccpo_jax.training.process_reward import curated, judge_steps, judged_advantage, open_judge
from tests.helpers import oracles_advantages as oracle
from tests.helpers.paths import ROOT
from tests.helpers.runs import metrics, small

STOP = 1  # the token that ends a step


@pytest.mark.parametrize(
    "name, words",
    [
        ("test_judge", "expected 'package.module:function'"),
        ("test_judge:", "expected 'package.module:function'"),
        ("no_such_module:f", "cannot import 'no_such_module'"),
        ("tests.helpers.verifiers:nothing", "has no 'nothing'"),
        ("tests.helpers.verifiers:NUMBER", "expected a function, it is a float"),
    ],
)
def test_a_judge_that_cannot_be_used_is_named(name, words):
    with pytest.raises(UserError, match=words):
        load_function(name, "config.reward.process")


def test_a_judge_is_found_by_name():
    assert load_function("", "x") is None
    assert load_function("math:fsum", "x") is __import__("math").fsum


TOKENS = np.array(
    [[[2, 2, 1, 3, 0, 0], [4, 1, 1, 2, 2, 1]], [[2, 0, 0, 0, 0, 0], [3, 1, 3, 0, 0, 0]]]
)
LENGTHS = np.array([[4, 6], [1, 3]])
PIECES = [[[[2, 2, 1], [3]], [[4, 1], [1], [2, 2, 1]]], [[[2]], [[3, 1], [3]]]]


def batch(outcome):
    """Two questions with two responses; step texts are a letter a token."""
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special: "".join("abcde"[i] for i in ids))
    solver = SimpleNamespace(tokenizer=tokenizer, boundary=jnp.arange(5) == STOP)
    outcome = np.array(outcome, np.float32)
    traces = SimpleNamespace(
        items=[SimpleNamespace(id=7, question="q"), SimpleNamespace(id=8, question="qq")],
        rollout=SimpleNamespace(tokens=jnp.asarray(TOKENS), length=jnp.asarray(LENGTHS)),
        tokens=TOKENS,
        scorable=~np.isnan(outcome),
    )
    return solver, traces


def test_scores_become_advantages_of_the_tokens_of_each_step():
    seen = []

    def judge(question, steps):
        seen.append((question, list(steps)))
        return [2.0 * len(step) + step.count("c") for step in steps]

    limits = SegmentationConfig(max_steps=4, min_tokens=1)
    solver, traces = batch([[1, 0], [1, np.nan]])
    judged = judge_steps(solver, limits, traces, judge)
    got = judged_advantage(judged, TOKENS.shape[-1])
    assert seen == [("q", ["ccb", "d"]), ("q", ["eb", "b", "ccb"]), ("qq", ["c"])]
    scores = [[8.0, 2.0], [4.0, 2.0, 8.0]]
    for g, row in enumerate(oracle.process_supervision(scores)):
        wanted = [a for a, piece in zip(row, PIECES[0][g], strict=True) for _ in piece]
        np.testing.assert_allclose(got[0, g, : len(wanted)], wanted, atol=1e-5)
        assert not np.asarray(got[0, g, len(wanted) :]).any()
    assert not np.asarray(got[1]).any()  # one step alone has nothing to be compared with
    assert judged.mean == pytest.approx((10 + 14 + 3) / 6)


@pytest.mark.parametrize("wrong", [[1.0], [1.0, float("nan")], None, ["x", "y"], 3.0])
def test_scores_that_do_not_fit_are_named(wrong):
    solver, traces = batch([[1, 0], [1, 0]])
    with pytest.raises(UserError, match="question 7 with 2 steps it returned"):
        judge_steps(solver, SegmentationConfig(min_tokens=1), traces, lambda q, s: wrong)


def test_a_process_reward_model_reads_all_solutions_at_once():
    golden = ROOT / "tests" / "golden_scorers" / "prm_tokens"
    judge = open_judge(RewardConfig(process=f"prm:{golden}"))
    limits = SegmentationConfig(max_steps=4, min_tokens=1)
    solver, traces = batch([[1, 0], [1, np.nan]])
    judged = judge_steps(solver, limits, traces, judge)
    np.testing.assert_allclose(judged.score[0, 0, :2], judge("q", ["ccb", "d"]), atol=1e-6)
    np.testing.assert_allclose(judged.score[0, 1, :3], judge("q", ["eb", "b", "ccb"]), atol=1e-6)
    assert judged.mask.sum() == 6 and not judged.score[~judged.mask].any()
    assert isinstance(open_judge(RewardConfig(process=f"critic:{golden}")), Critic)


def test_the_filter_keeps_what_fits_its_outcome_and_balances():
    tokens = np.tile(np.array([2, 1, 3, 1, 0, 0]), (1, 6, 1))
    outcome = np.array([[1, 1, 1, 1, 0, np.nan]], np.float32)
    solver, traces = batch([[1, 0], [1, 0]])
    traces.tokens, traces.outcome, traces.scorable = tokens, outcome, ~np.isnan(outcome)
    traces.items = traces.items[:1]
    lengths = jnp.full((1, 6), 4)
    traces.rollout = SimpleNamespace(tokens=jnp.asarray(tokens), length=lengths)
    given = iter([[0.9, 0.9], [0.1, 0.1], [0.5, 0.5], [0.8, 0.8], [0.2, 0.2]])
    limits = SegmentationConfig(max_steps=4, min_tokens=1)
    judged = judge_steps(solver, limits, traces, lambda q, s: next(given))
    assert judged.mean == pytest.approx(0.5)
    kept = curated(judged, traces, keep=3)
    # The unscorable one goes first, then the right ones whose steps look worst.
    np.testing.assert_array_equal(kept, [[True, False, False, True, True, False]])
    np.testing.assert_array_equal(curated(judged, traces, keep=5), ~np.isnan(outcome))


def test_what_a_judge_raises_is_named_and_where_it_is_lost_nothing_is_judged(caplog):
    solver, traces = batch([[1, 0], [1, np.nan]])
    limits = SegmentationConfig(max_steps=4, min_tokens=1)
    judge = load_process("tests.helpers.verifiers:judge_that_fails", seconds=1.0)
    with pytest.raises(UserError, match="question 8 with 1 steps: KeyError: 'qq'"):
        judge_steps(solver, limits, traces, judge)
    assert "question 7 with 2 steps: not judged, it was too slow" in caplog.text
    traces.scorable[1] = False
    judged = judge_steps(solver, limits, traces, judge)
    assert judged.mask.sum(-1).tolist() == [[0, 3], [0, 0]] and judged.mean == 0.5
    assert not np.asarray(judged_advantage(judged, TOKENS.shape[-1]))[0, 0].any()


@pytest.mark.slow
def test_a_run_that_trains_on_what_a_judge_keeps(tmp_path):
    changes = {
        "credit__kind": "outcome", "steps": 1,
        "reward__process": "gccpo_jax.tasks.arithmetic:score",
        "reward__process_use": "curate", "reward__keep": 2, "eval__ood_questions": 0,
    }  # fmt: skip
    train.train_and_evaluate(small(**changes), "prof", tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["kept"] == 0.5


@pytest.mark.slow
def test_a_run_with_a_judge(tmp_path):
    changes = {
        "credit__kind": "outcome", "steps": 1,
        "reward__process": "tests.helpers.verifiers:lengths_judge",
        "reward__process_weight": 0.5, "eval__ood_questions": 0,
    }  # fmt: skip
    train.train_and_evaluate(small(**changes), "judge", tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["process_score"] > 0

"""The experiments on made-up scores; the commands themselves are slow."""

import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import analyse as command
from gccpo_jax.analysis.suites import lucky_guess, rows, step_credit, tables
from gccpo_jax.analysis.suites.run import SUITE
from gccpo_jax.errors import UserError
from gccpo_jax.reward import Arms, Family, no_arms
from gccpo_jax.runtime.cli import load_config
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.types import Rollout, Segment, Spans
from tests.helpers.paths import ROOT

NAMED = ("te_d", "te_phi", "ir_d", "robustness", "selectivity", "outcome", "logprob", "entropy")
NAMED += ("credit", "permuted")


@pytest.mark.parametrize("taught", ["tiny_sft", "shortcut_sft"])
def test_no_question_was_a_demonstration(taught):
    options = load_config(str(ROOT / "configs" / f"{taught}.py"))[0].task.options
    seen = {item.question for item in chain(ChainConfig(**options)).splits["train"]}
    suite = chain(ChainConfig(**SUITE, shortcut=options.get("shortcut", 0.0)))
    asked = {item.question for name in ("id", "ood_shortcut") for item in suite.splits[name]}
    assert len(seen) > 12000 and len(asked) > 700 and not seen & asked


def made_up(seed=0, questions=30, trajectories=6, steps=3, noise=0.3):
    """Steps with random labels; te_d sees them through noise, the other scores do not."""
    random = np.random.default_rng(seed)
    index = np.indices((questions, trajectories, steps)).reshape(3, -1)
    size = index.shape[1]
    label = random.choice(["valid", "valid", "wrong_arithmetic", "filler"], size).astype(object)
    good = (label == "valid").astype(float)
    scores = {name: random.normal(size=size) for name in rows.SCORES}
    scores["te_d"] = good + noise * random.normal(size=size)
    scores["robustness"] = np.full(size, np.nan)  # nothing was read for it
    scores["ir_d"] = np.where(random.random(size) < 0.5, np.nan, scores["ir_d"])
    wrong = (label == "wrong_arithmetic").reshape(questions, trajectories, steps)
    before = np.cumsum(wrong, -1) - wrong
    return rows.Rows(
        question=index[0] * 7,
        trajectory=index[1],
        step=index[2],
        label=label,
        outcome=random.integers(0, 2, size).astype(float),
        injected=index[1] >= 3,
        wrong=label == "wrong_arithmetic",
        sound_before=(before == 0).ravel(),
        scores=scores,
    )


def test_the_summary_finds_the_score_that_sees_the_labels():
    summary = step_credit.summarise(made_up(), [0.9, 0.7])
    assert set(NAMED) <= set(summary["auc"])
    for name, found in summary["auc"].items():
        if name == "robustness":
            assert found["estimate"] is None
            continue
        assert found["low"] <= found["estimate"] <= found["high"], name
        if name != "te_d":
            assert 0.35 < found["estimate"] < 0.65, name
    assert summary["auc"]["te_d"]["low"] > 0.95
    assert summary["gain"]["te_d"]["outcome"]["low"] > 0.3
    assert summary["gain"]["credit"]["te_d"]["high"] < -0.3
    assert summary["reader"]["gate"] == pytest.approx(0.8)
    assert summary["process_bench"]["te_d"]["f1"]["estimate"] > 0.5
    gaps = summary["means"]["te_d"]["gaps"]
    assert gaps["valid - filler"]["low"] > 0.5 and abs(gaps["filler - invalid"]["estimate"]) < 0.3
    assert summary["counts"]["trajectories"] == 180 and summary["counts"]["steps"] == 540
    assert json.loads(json.dumps(summary)) == summary, "plain numbers, no NaN"
    text = tables.step_credit_tables(summary)
    assert "`te_d`" in text and "nan" not in text.lower()
    assert "`prm`" in text and "`robustness`" not in text, "a score without values has no row"
    sorted_keys = json.loads(json.dumps(summary, sort_keys=True))
    assert tables.step_credit_tables(sorted_keys) == text, "the order of keys says nothing"


def test_nothing_to_compare_is_undefined_and_not_a_number():
    only = made_up().where(np.arange(540) < 0)
    summary = step_credit.summarise(only, [0.0])
    assert summary["auc"]["te_d"] == {"estimate": None, "low": None, "high": None}
    assert "--" in tables.step_credit_tables(summary)


def test_permuted_credits_stay_in_their_trajectory():
    credit = np.arange(24.0).reshape(2, 3, 4)
    mask = np.ones(credit.shape, bool)
    mask[:, :, 3] = False
    other = rows.permuted(credit, mask, np.array([5, 9]), 0)
    np.testing.assert_array_equal(np.sort(other, -1), credit)
    np.testing.assert_array_equal(other[..., 3], credit[..., 3])
    assert np.any(other != credit)


def test_the_order_of_permuted_credits_is_by_question_not_by_place():
    """The same whatever questions share the batch: alone, or in another order."""
    credit = np.tile(np.arange(8.0), (3, 2, 1))
    mask, ids = np.ones(credit.shape, bool), np.array([7, 3, 11])
    found = rows.permuted(credit, mask, ids, 0)
    np.testing.assert_array_equal(rows.permuted(credit, mask, ids[::-1], 0), found[::-1])
    np.testing.assert_array_equal(rows.permuted(credit[:1], mask[:1], ids[2:], 0), found[2:])
    assert len({tuple(order) for order in found.reshape(-1, 8)}) == 6, "and each has its own"


def test_the_method_credit_of_known_effects():
    """Effects (.2, -.05, .75), R (.5, .8, undefined): the group's median takes its place."""
    p, q = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]  # J(p, q) is 1: R is the share of arms that stay
    arms = jnp.array([[[[q] * 5 + [p] * 5, [q] * 2 + [p] * 8, [p] * 10]]])
    usable = jnp.broadcast_to(jnp.array([True, True, False])[:, None], arms.shape[:-1])
    value = np.array([[[0.1, 0.3, 0.25, 1.0]]])
    found = types.SimpleNamespace(
        mask=np.ones((1, 1, 3), bool),
        outcome=np.array([[1.0]]),
        value=value,
        effect=np.diff(value),
        equivariance=np.full((1, 1), np.nan),
        laws=types.SimpleNamespace(
            factual=jnp.array([[[p] * 3]]),
            nuisance=Arms(arms, usable, Family.NUISANCE),
            content=no_arms(Family.CONTENT, (1, 1, 3), 3),
        ),
        spans=Spans(
            np.array([[[0, 10, 30]]]), np.array([[[10, 30, 40]]]), np.ones((1, 1, 3), bool)
        ),
    )
    gated, credit = rows.method_credit(found, rollout_of(40))
    last = 0.65 * 0.75
    np.testing.assert_allclose(gated[0, 0], [0.1, -0.05, last], rtol=1e-5)
    middle = -0.05 + 0.95**1 * last
    np.testing.assert_allclose(credit[0, 0], [0.1 + 0.95**2 * middle, middle, last], rtol=1e-5)


def rollout_of(size):
    """One trajectory of `size` tokens."""
    zeros, length = jnp.zeros((1, 1, size)), jnp.full((1, 1), size)
    empty = jnp.zeros((1, 1))
    return Rollout(
        tokens=zeros.astype(int),
        logp=zeros,
        entropy=zeros,
        length=length,
        stopped=length > 0,
        segment=Segment(empty, empty, empty),
    )


TASK = chain(ChainConfig(train=20, id=20, ood=20, max_operations=3, shortcut=0.9))


def test_injected_steps_are_never_valid():
    for item in TASK.splits["id"]:
        for seed in range(5):
            lines = TASK.inject(item, np.random.default_rng(seed))
            labels = TASK.check(item, lines)
            assert labels[-1] != "valid" and set(labels[:-1]) <= {"valid"}


def test_answers_are_told_apart_by_where_they_come_from():
    item = TASK.splits["ood_shortcut"][0]
    problem = item.meta["problem"]
    lines = item.solution.split("\n")
    value, label = str(problem.gold()), str(problem.label)
    classify = lucky_guess.classify
    assert classify(item, lines, value) == "follows the steps"
    assert classify(item, lines, label) == "follows the cue"
    assert classify(item, lines, "99") is None and classify(item, lines, None) is None
    assert classify(item, lines[-1:], value) is None, "no step before the answer"


def test_the_lucky_guess_summary():
    random = np.random.default_rng(0)
    kind = random.choice(lucky_guess.KINDS, 200)
    table = {name: random.normal(size=200) for name in lucky_guess.SCORES}
    table |= {
        "question": np.arange(200) // 4,
        "kind": kind,
        "outcome": random.integers(0, 2, 200),
        "robustness_answer": (kind == lucky_guess.KINDS[1]) + 0.1 * random.normal(size=200),
    }
    table["equivariance"][:50] = np.nan
    found = lucky_guess.summarise(table)["scores"]
    assert found["robustness_answer"]["auc"]["low"] > 0.99
    assert found["logprob"]["auc"]["low"] < 0.5 < found["logprob"]["auc"]["high"]
    assert found["equivariance"]["defined"] == 150
    brute = [
        (a > b) + 0.5 * (a == b)
        for a in table["logprob"][kind == lucky_guess.KINDS[1]]
        for b in table["logprob"][kind == lucky_guess.KINDS[0]]
    ]
    assert found["logprob"]["auc"]["estimate"] == pytest.approx(np.mean(brute))


def test_a_report_keeps_what_people_wrote(tmp_path):
    page = tables.write(tmp_path, "x", "Title", "first", "| a |", {"n": 1})[0]
    page.write_text(page.read_text() + "\nWhat it means.\n")
    tables.write(tmp_path, "x", "Title", "second", "| b |", {"n": 2})
    text = page.read_text()
    assert "second" in text and "first" not in text and text.endswith("What it means.\n")
    page.write_text("no marks")
    with pytest.raises(UserError, match="generated: begin"):
        tables.write(tmp_path, "x", "Title", "third", "| c |", {})


def test_a_plot_is_drawn(tmp_path):
    bars = {"a": {"estimate": 0.8, "low": 0.7, "high": 0.9}, "b": {"estimate": None}}
    tables.plot_bars(tmp_path / "x.png", "t", "AUC", bars)
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_step_credit_command_ends_with_its_numbers(tmp_path, capsys):
    args = ["--suite", "chain", "--questions", "8", "--draws", "8", "--injected", "4"]
    assert command.main([*args, "--out", str(tmp_path)]) == 0
    last = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(NAMED) <= set(last["auc"])
    assert last["auc"]["te_d"]["estimate"] > 0.65
    assert {p.name for p in tmp_path.iterdir()} == {
        "step_credit.md", "step_credit.json", "step_credit.png",
    }  # fmt: skip
    assert "--suite chain --questions 8 --draws 8" in (tmp_path / "step_credit.md").read_text()

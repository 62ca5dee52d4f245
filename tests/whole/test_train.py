"""Whole runs, small: what they write, that they repeat, resume, and do not depend on the mesh."""

import json
import shutil

import jax
import numpy as np
import pytest

from gccpo_jax import sft, train
from gccpo_jax.plan import shape_of
from gccpo_jax.policy import weights
from gccpo_jax.report import read_run
from gccpo_jax.reward import robustness
from gccpo_jax.runtime import checkpoints
from gccpo_jax.training.planning.memory import plan_update
from gccpo_jax.training.run import Run
from tests.helpers.runs import metrics, rollouts, small


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "one"
    summary = train.train_and_evaluate(small(), "small", workdir)
    return workdir, summary


def test_a_run_writes_what_it_promises(finished):
    workdir, summary = finished
    assert json.loads((workdir / "summary.json").read_text()) == summary
    assert set(summary) == {"before", "after", "steps", "config"}
    assert {"id", "ood_surface", "ood_depth", "ood_shortcut"} <= set(summary["after"])
    rows = metrics(workdir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    wanted = {
        "accuracy",
        "R",
        "D",
        "D_abs",
        "kl",
        "clip_fraction",
        "entropy",
        "length",
        "grad_norm",
    }
    assert wanted <= set(rows[0])
    assert {"direct", "sound_right", "sound_wrong", "flawed_right", "flawed_wrong"} <= set(rows[0])
    assert all(np.isfinite(value) for row in rows for value in row.values())
    stages = {"sample_seconds", "branches_seconds", "readout_seconds", "update_seconds"}
    written = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    before, first, *_, last = written
    named = {
        name: {f"eval/{k}": v for k, v in summary[name].items()} for name in ("before", "after")
    }
    assert before == {"step": 0} | named["before"] and named["after"].items() <= last.items()
    assert not any(name.startswith("eval/") for name in first)
    assert stages | {"tokens_per_second", "step_seconds"} <= set(first)


def test_the_record_agrees_with_the_metrics_and_with_itself(finished):
    workdir, _ = finished
    run = read_run(workdir)
    assert [row["step"] for row in run.metrics] == [0, 1, 2, 3, 4]
    for at in (1, 2, 4):  # all of the batch
        rows = [row for row in run.trajectories if row.step == at]
        steps = [step for row in rows for step in row.steps]
        logged = run.metrics[at]
        means = {
            "accuracy": [row.outcome for row in rows],
            "length": [row.length for row in rows],
            "sound_right": [row.quadrant == "sound_right" for row in rows],
            "D_abs": [abs(step.effect) for step in steps],
            "R": [step.robustness for step in steps if step.robustness_measured] or [0.0],
            "advantage_abs": [abs(step.advantage) for step in steps],
        }
        for name, values in means.items():
            assert logged[name] == pytest.approx(np.mean(values), abs=2e-6), (at, name)
    rows = run.trajectories
    assert len(rows) == 3 * 8
    for row in rows:
        ends = [0, *(step.end for step in row.steps)]
        assert [step.start for step in row.steps] == ends[:-1] and ends[-1] == row.length
        assert {len(column) for column in vars(row.tokens).values()} == {row.length}
        assert sum(row.tokens.advantage) == pytest.approx(row.advantage, abs=1e-4)
        assert row.steps[-1].value_after == pytest.approx(row.outcome, abs=1e-5)
        assert row.steps[0].draws_before == 4 and row.steps[-1].branches == ()
        for step, following in zip(row.steps, row.steps[1:], strict=False):
            assert step.value_after == pytest.approx(following.value_before, abs=1e-5)
            scores = [branch.score for branch in step.branches]
            assert len(scores) == step.draws_after == small().counterfactual.draws
            assert step.value_after == pytest.approx(np.mean(scores), abs=2e-6)
        for step in row.steps:
            assert len(step.law) == len(row.candidates) + 1
            assert sum(step.law) == pytest.approx(1.0, abs=1e-5)
            nuisance = [arm for arm in step.arms if arm.usable and arm.family == "nuisance"]
            if step.robustness_measured:
                law, arms = (np.array(x)[None] for x in (step.law, [arm.law for arm in nuisance]))
                R, _ = robustness(law, arms, np.ones(arms.shape[:2], bool))
                assert step.robustness == pytest.approx(float(R[0]), abs=1e-4)


def test_what_is_recorded_changes_no_metric(finished, tmp_path):
    workdir, _ = finished
    train.train_and_evaluate(small(log__rollouts_every=0), "small", tmp_path / "silent")
    assert not (tmp_path / "silent/rollouts").exists()
    assert metrics(tmp_path / "silent") == metrics(workdir)


def evaluation(workdir, step):
    lines = (workdir / f"evaluation/step_{step:06d}.jsonl").read_text().splitlines()
    return {row["split"]: row for row in map(json.loads, lines)}


def test_the_outcome_of_every_question_is_kept(finished):
    workdir, summary = finished
    for step, when in ((0, "before"), (4, "after")):
        found = evaluation(workdir, step)
        means = {split: np.mean(row["scores"]) for split, row in found.items()}
        assert means == pytest.approx({split: summary[when][split] for split in means})
    shape = found["ood_shortcut"]
    assert len(set(shape["items"])) == len(shape["scores"]) == 4
    assert set(shape["scores"]) <= {0, 1}
    # Item i of a family is item i of "id" with one thing changed, which is not the template.
    assert shape["templates"] == found["id"]["templates"]
    assert all(set(name.partition("/")[2]) <= set("+-") for name in shape["templates"])


def test_forward_tokens_count_prompts_rollouts_branches_and_readings(finished):
    for row in metrics(finished[0]):
        seen = row["tokens"] + row["branch_tokens"]
        # Two latent arms and the chain read at least 1.5 candidates of 2 tokens at each step.
        assert row["forward_tokens"] > seen + 2 * row["candidates"] * 8 * 2
        assert 1 <= row["candidates"] <= 6 and row["candidate_tokens"] >= 2 * row["candidates"]
        # The surface arm reads every trajectory and its question once more.
        assert row["forward_tokens"] > seen + row["tokens"] + 8 * 20


def test_a_penalty_towards_the_reference_is_measured(finished):
    rows = metrics(finished[0])
    assert small().objective.beta > 0
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert rows[-1]["kl"] > 1e-6


@pytest.mark.slow
def test_a_nucleus_leaves_no_penalty_before_the_first_update(tmp_path):
    train.train_and_evaluate(small(sampling__top_p=0.9, steps=2), "nucleus", tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        dict(loss="gvpo", beta=0.0),
        dict(loss="gspo", reduction="seq_mean_token_mean", entropy_bonus=0.01),
    ],
    ids=lambda o: o["loss"],
)
def test_other_losses_train(tmp_path, options):
    changes = {f"objective__{name}": value for name, value in options.items()}
    c = small(credit__kind="outcome", optim__micro_batch=1, optim__epochs=2, steps=2, **changes)
    train.train_and_evaluate(c, "other", tmp_path / "run")
    rows = metrics(tmp_path / "run")
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert rows[0]["update_norm"] > 0


def test_micro_batches_that_fit_a_memory_train_as_if_asked_for(tmp_path, capsys):
    c = small(credit__kind="outcome", steps=1)
    sizes = [
        plan_update(small(credit__kind="outcome", optim__micro_batch=n), shape_of(c)).total
        for n in (1, 2)
    ]
    changes = [dict(optim__micro_batch=1), dict(optim__memory_gib=sum(sizes) / 2 / 2**30)]
    for n, change in enumerate(changes):
        run = small(credit__kind="outcome", steps=1, **change)
        train.train_and_evaluate(run, "fits", tmp_path / str(n))
    first, second = (metrics(tmp_path / str(n))[0] for n in (0, 1))
    assert first["update_norm"] == second["update_norm"] > 0
    said = capsys.readouterr().out
    assert "micro-batches of 1 of 2 questions" in said
    assert "held-out questions before training; programs compile first\naccuracy  id" in said


def test_rollouts_show_steps_that_add_up(finished):
    workdir, _ = finished
    names = sorted(path.name for path in (workdir / "rollouts").iterdir())
    assert names == [f"step_{n:06d}.{end}" for n in (1, 2, 4) for end in ("jsonl.gz", "txt")]
    rows, effects = read_run(workdir).trajectories, []
    assert len(rows) == 3 * 2 * 4
    for row in rows:
        bounds = [(step.start, step.end) for step in row.steps]
        assert [0, *(end for _, end in bounds)] == [*(start for start, _ in bounds), row.length]
        # Effects telescope to the outcome minus the value before the first step.
        total = sum(step.effect for step in row.steps)
        assert total == pytest.approx(row.outcome - row.steps[0].value_before, abs=1e-5)
        assert all(0 <= step.robustness <= 1 for step in row.steps)
        effects += [step.effect for step in row.steps]
    assert any(effects), "not everything is zero"
    assert "Phi before" in (workdir / "rollouts" / "step_000004.txt").read_text()


def test_the_policy_that_is_written_is_the_one_that_was_trained(finished):
    workdir, _ = finished
    arch, params = weights.load(workdir / "policy")
    start_arch, start = weights.load("tiny")
    assert arch == start_arch
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, start)
    assert all(change > 0 for change in jax.tree.leaves(moved))


def test_the_same_seed_gives_the_same_run_and_another_another(finished, tmp_path):
    workdir, _ = finished
    train.train_and_evaluate(small(), "small", tmp_path / "again")
    assert metrics(tmp_path / "again") == metrics(workdir)
    train.train_and_evaluate(small(seed=1, steps=1), "small", tmp_path / "other")
    assert metrics(tmp_path / "other")[0] != metrics(workdir)[0]


class Killed(Exception):
    """Stands for a process that ends between two steps."""


@pytest.mark.parametrize("last", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_resumed_run_is_the_uninterrupted_run(finished, tmp_path, monkeypatch, last):
    """Killed before the first checkpoint, and between two."""
    workdir, summary = finished
    interrupted = tmp_path / "killed"
    finish_step = Run.finish_step

    def die_after_the_last(self, config, step, *rest):
        finish_step(self, config, step, *rest)
        if step == last:
            raise Killed

    monkeypatch.setattr(Run, "finish_step", die_after_the_last)
    with pytest.raises(Killed):
        train.train_and_evaluate(small(), "small", interrupted)
    monkeypatch.undo()
    assert [row["step"] for row in metrics(interrupted)] == [1, 2, 3][:last]
    resumed = train.train_and_evaluate(small(), "small", interrupted, resume=True)
    assert resumed == summary
    assert metrics(interrupted) == metrics(workdir)
    ours, theirs = (weights.load(path / "policy")[1] for path in (interrupted, workdir))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_finished_run_can_be_resumed_without_harm(finished, tmp_path):
    workdir, summary = finished
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    assert train.train_and_evaluate(small(), "small", copy, resume=True) == summary
    assert metrics(copy) == metrics(workdir)


def test_checkpoints_keep_the_newest(finished):
    workdir, _ = finished
    assert checkpoints.Checkpoints(workdir / "checkpoints", keep=3).latest == 4


def test_outcome_credit_needs_no_reading_and_evaluation_can_sample(tmp_path):
    changes = {
        "credit__kind": "outcome", "credit__baseline": "zscore", "steps": 2,
        "eval__every": 1, "eval__draws": 2,
    }  # fmt: skip
    summary = train.train_and_evaluate(small(**changes), "grpo", tmp_path / "grpo")
    row = metrics(tmp_path / "grpo")[0]
    assert "R" not in row and "accuracy" in row
    # Two questions of 20 to 44 tokens, read once each; nothing beside the rollouts.
    assert 40 <= row["forward_tokens"] - row["tokens"] <= 88
    sampled = evaluation(tmp_path / "grpo", 1)["id_mean@2"]
    assert set(sampled["scores"]) <= {0, 0.5, 1}
    assert 0 <= row["eval/id_mean@2"] <= 1 and "eval/ood_depth" in row
    assert "id_mean@2" in summary["before"] and "id_mean@2" in summary["after"]
    assert rollouts(tmp_path / "grpo", 1)[0]["steps"] is None


EVERYTHING = {
    "counterfactual__corrupt_arms": 1,
    "counterfactual__swap_arms": 1,
    "counterfactual__equivalent_arms": 3,
}
VARIANTS = {
    "selective, frozen reader": {
        "credit__kind": "selective",
        "counterfactual__reader": "reference",
    },
    "additive": {"credit__kind": "additive"},
    "four_corner, scored Phi": {"credit__kind": "four_corner", "counterfactual__value": "scored"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_intervention_and_credit_trains(tmp_path, name):
    """Finite metrics, kept fractions logged, and scores from content arms where asked for."""
    changes = EVERYTHING | VARIANTS[name]
    train.train_and_evaluate(small(steps=2, **changes), "small", tmp_path / "run")
    rows = metrics(tmp_path / "run")
    for row in rows:
        assert all(np.isfinite(value) for value in row.values())
        for kept in ("equivalent_kept", "corrupt_kept", "swap_kept", "surface_kept"):
            assert 0 <= row[kept] <= 1
        assert row["corrupt_kept"] > 0 and 0 <= row["S"] <= 1
        assert (row["branch_tokens"] == 0) == ("scored" in name)


@pytest.mark.slow
def test_a_moving_average_reads_and_resumes_exactly(tmp_path):
    """Reader "ema": the average is part of the checkpoint."""
    options = {"counterfactual__reader": "ema", "counterfactual__ema": 0.5, "optim__lr": 1e-2}
    whole, part = tmp_path / "whole", tmp_path / "part"
    train.train_and_evaluate(small(**options), "small", whole)
    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoints" / "4")
    train.train_and_evaluate(small(**options), "small", part, resume=True)
    assert metrics(part) == metrics(whole)
    plain = tmp_path / "plain"
    train.train_and_evaluate(small(optim__lr=1e-2), "small", plain)
    apart = [
        abs(a["other"] - b["other"]) for a, b in zip(*map(metrics, (plain, whole)), strict=True)
    ]
    assert apart[0] < 1e-5, "the first average is the policy"
    assert max(apart[1:]) > 1e-3, "after an update it is not"


@pytest.mark.slow
def test_fine_tuning_from_scratch_learns_its_demonstrations(tmp_path):
    changes = {
        "policy__init": "scratch", "steps": 30, "batch_size": 8, "optim__lr": 1e-2,
        "sampling__max_tokens": 48, "eval__ood_questions": 0,
    }  # fmt: skip
    sft.fine_tune(small(**changes), "sft", tmp_path / "sft")
    rows = metrics(tmp_path / "sft")
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert (tmp_path / "sft" / "policy" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_run_that_computes_in_bfloat16_trains_float32_weights(tmp_path):
    c = small(steps=2, policy__compute="bfloat16")
    train.train_and_evaluate(c, "small", tmp_path)
    start = weights.load(c.policy.path)[1]
    arch, params = weights.load(tmp_path / "policy")
    assert arch.dtype == "float32"
    assert np.any(params["embed"] != params["embed"].astype("bfloat16")), "written as trained"
    assert all(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (start, params)), strict=True))
    for row in metrics(tmp_path):
        assert row["skipped"] == 0
        assert np.isfinite([row["loss"], row["grad_norm"], row["D_abs"]]).all()
        assert row["ratio"] == 1 and row["drift"] == 0, "the first update is on-policy"
        assert 0 < row["sampler_mismatch"] < 0.1, "sampled and updated in bfloat16: nearly one law"

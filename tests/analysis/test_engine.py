"""The library and the command: scores of given and of sampled solutions, also of bad ones."""

import dataclasses
import json

import numpy as np
import pytest

from gccpo_jax import analyse as command
from gccpo_jax.analysis.library import (
    Query,
    analyse,
    analyse_batch,
    make_item,
    split_steps,
    step_ids,
)
from gccpo_jax.analysis.report import difference, mean_estimate, phi_estimate
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.report import read_analysis
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from gccpo_jax.tasks.chain.text import solution_steps

ARMS = CounterfactualConfig(
    draws=4,
    latent_arms=1,
    surface_arms=1,
    corrupt_arms=2,
    equivariance_arms=1,
    max_answer_tokens=3,
    max_candidates=8,
)
SHAPE = {"group": 2, "prompt_tokens": 64, "response_tokens": 48}
"""Of the tests with eight given solutions: they share what is compiled."""
SMALL = Settings(max_tokens=40, counterfactual=ARMS, segmentation=SegmentationConfig(max_steps=4))


@pytest.fixture(scope="module")
def model():
    return open_model("tiny", chain(ChainConfig(train=8, id=24, ood=24, max_operations=3, seed=3)))


def wrong_result(line):
    head, tail = line.split("= ")
    number, thing = tail.split(" ")
    return f"{head}= {int(number) + 2} {thing}"


def test_a_wrong_step_is_seen(model):
    """A sound solution and one with a wrong last result: D of that step tells them apart."""
    items = [i for i in model.solver.task.splits["id"] if len(i.meta["problem"].changes) == 2][:4]
    queries = []
    for item in items:
        lines = solution_steps(item.meta["problem"])
        bad = [lines[0], wrong_result(lines[1]), lines[2]]
        bad[2] = "#### " + bad[1].split("= ")[1].split(" ")[0]
        queries += [
            Query(item, tuple(lines)),
            Query(dataclasses.replace(item, id=item.id + 1), tuple(bad)),
        ]
    reports, found = analyse_batch(model, queries, SMALL, **SHAPE)
    for good, bad in zip(reports[::2], reports[1::2], strict=True):
        assert good[0].outcome == 1 and bad[0].outcome == 0
        assert good[0].steps[1].phi.value > 0.7 and bad[0].steps[1].phi.value < 0.3
        assert good[0].steps[1].D.value >= 0 >= bad[0].steps[1].D.value
    for row in (r[0] for r in reports):
        total = sum(step.D.value for step in row.steps)
        assert total == pytest.approx(row.outcome - row.steps[0].phi_before.value, abs=1e-5)
        for step in row.steps:
            for x in (step.phi, step.D, step.R, step.S):
                assert x is None or x.low is None or x.low <= x.value <= x.high
    assert found.decoded > 0


BAD = {
    "no steps": ((), "4"),
    "one step": (("#### 4",), "4"),
    "an empty step": (("Ana 1 + 1 = 2 pens", "", "#### 2"), "2"),
    "no answer": (("Ana 1 + 1 = 2 pens", "Now we count ."), "2"),
    "no gold": (("Ana 1 + 1 = 2 pens", "#### 2"), None),
    "an answer longer than a candidate": (("Ana 1 + 1 = 2 pens", "#### 123456"), "123456"),
    "too many steps": (("Now we count .",) * 4 + ("#### 2", "#### 3"), "3"),
    "unknown words": (("zebra quux", "#### 2"), "2"),
}


def test_bad_solutions_give_defined_results(model):
    """Undefined is None with a reason that can be counted; nothing is NaN, nothing raises."""
    task = model.solver.task
    queries = [
        Query(make_item(task, n, "Ana has 1 pens . Ana puts in 1 pens .", gold), steps, name=name)
        for n, (name, (steps, gold)) in enumerate(BAD.items())
    ]
    reports, _ = analyse_batch(model, queries, SMALL, **SHAPE)
    by_name = {row[0].id: row[0] for row in reports}
    text = json.dumps([row[0].to_json() for row in reports])
    assert "NaN" not in text and "Infinity" not in text
    assert by_name["no steps"].steps == [] and by_name["no steps"].answer is None
    assert len(by_name["one step"].steps) == 1 and by_name["one step"].steps[0].D is not None
    empty = by_name["an empty step"].steps[1]
    assert empty.tokens == 0 and empty.R is None and empty.S is None and empty.logp is None
    assert empty.D.value == 0
    assert by_name["no answer"].outcome == 0 and by_name["no answer"].answer is None
    blind = by_name["no gold"]
    assert blind.outcome is None and all(s.D is None and s.phi is None for s in blind.steps)
    assert len(by_name["too many steps"].steps) == SMALL.segmentation.max_steps


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 1e4])
def test_no_noise_and_huge_noise_give_finite_scores(model, sigma):
    item = model.solver.task.splits["id"][0]
    arms = dataclasses.replace(ARMS, latent_sigma=sigma, surface_arms=0, max_candidates=2)
    settings = dataclasses.replace(SMALL, counterfactual=arms)
    report = analyse(model, item, solution_steps(item.meta["problem"]), settings=settings, group=1)
    measured = [step.R.value for step in report.steps if step.R is not None]
    assert measured and all(0 <= r <= 1 for r in measured)
    if sigma == 0:
        assert measured == [1.0] * len(measured)
    else:
        assert min(measured) < 0.9


@pytest.mark.slow
def test_the_models_own_solutions_can_be_audited(model):
    """Without a solution the model writes one; the audit adds D^cf and agreement."""
    item = model.solver.task.splits["id"][1]
    settings = dataclasses.replace(SMALL, audit_arms=2)
    reports, found = analyse_batch(model, [Query(item)], settings, group=3)
    assert len(reports[0]) == 3 and reports[0][1].id.endswith("/1")
    steps = [step for report in reports[0] for step in report.steps]
    assert any(step.counterfactual is not None for step in steps)
    assert any(step.agreement is not None for step in steps)
    for step in steps:
        assert step.counterfactual is None or -1 <= step.counterfactual <= 1
        assert step.agreement is None or 0 <= step.agreement <= 1
        assert step.but_for is None or 0 <= step.but_for <= 1
    assert any(step.but_for is not None for step in steps)


@pytest.mark.slow
def test_results_do_not_depend_on_the_batch(model):
    items = model.solver.task.splits["id"][:3]
    queries = [Query(i, tuple(solution_steps(i.meta["problem"]))) for i in items]
    alone, _ = analyse_batch(model, queries[1:2], SMALL, group=2, prompt_tokens=64)
    together, _ = analyse_batch(model, queries, SMALL, group=2, prompt_tokens=64)
    for one, other in zip(alone[0][0].steps, together[1][0].steps, strict=True):
        assert one.phi.value == other.phi.value and one.D.value == other.D.value
        if one.R is not None:
            assert one.R.value == pytest.approx(other.R.value, abs=1e-5)


def test_text_is_cut_where_the_task_cuts(model):
    assert split_steps(model.solver.task, "a\nb\n") == ["a\n", "b\n"]
    ids = step_ids(model.solver, ["Ana 1 + 1 = 2 pens", " ", "#### 2"])
    assert model.solver.tokenizer.decode(ids[0]) == "Ana 1 + 1 = 2 pens\n"
    assert ids[1] == [] and ids[2][-1] == model.solver.tokenizer.eos_id


def test_intervals():
    assert phi_estimate(0.0, 0, 4).high == pytest.approx(0.4899, abs=1e-4)
    assert phi_estimate(0.5, 2, 4).low == pytest.approx(0.1500, abs=1e-3)
    assert phi_estimate(float("nan"), 0, 0) is None
    step = difference(phi_estimate(0.25, 1, 4), phi_estimate(1.0, 0, 0))
    assert step.value == 0.75 and step.low < 0.75 < step.high <= 1
    assert difference(None, step) is None
    one, two = np.array([0.4]), np.array([0.4, 0.6, np.nan])
    assert mean_estimate(0.4, one).low is None
    assert mean_estimate(0.5, two).low == 0.0  # Student with one degree of freedom
    assert mean_estimate(float("nan"), two) is None


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


FLAGS = [
    "--draws", "2", "--latent-arms", "1", "--surface-arms", "0", "--corrupt-arms", "1",
    "--max-tokens", "32", "--max-steps", "4", "--group", "2", "--batch", "2",
]  # fmt: skip
ROWS = [
    {"question": "There are 3 pens . Then Ana puts 4 pens in . How many pens are there ?",
     "steps": ["Ana 3 + 4 = 7 pens", "#### 7"], "answer": "7", "label": -1},
    {"question": "There are 3 pens . Then Ana puts 4 pens in . How many pens are there ?",
     "steps": ["Ana 3 + 4 = 9 pens", "#### 9"], "answer": "7", "label": 0},
    {"question": "There are 5 hats . Then Ben puts 1 hats in . How many hats are there ?",
     "answer": "6"},
]  # fmt: skip


def test_the_command_writes_results_that_can_be_resumed(tmp_path, capsys):
    data, out = write(tmp_path / "rows.jsonl", ROWS), tmp_path / "out"
    args = ["--data", data, "--out", str(out), *FLAGS]
    assert command.main(args) == 0
    file = out / "trajectories.jsonl"
    whole = file.read_text()
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line["id"] for line in lines] == ["2/0", "2/1", "0", "1"]
    assert [s["label"] for s in lines[3]["steps"]] == ["wrong", None]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["trajectories"] == 4 and summary["labels"] == {"valid": 2, "wrong": 1}
    steps = [step for row in read_analysis(out).trajectories for step in row.steps]
    assert all(sum(step.law) == pytest.approx(1, abs=1e-4) for step in steps)
    assert [arm.name for arm in steps[-2].arms] == ["latent", "corrupt"]
    assert steps[-2].arms[1].text != steps[-2].text
    assert "| score |" in (out / "summary.md").read_text()
    assert "Phi" in (out / "trajectories.txt").read_text()
    assert command.main(args) == 2
    assert "--resume" in capsys.readouterr().err
    kept = "".join(whole.splitlines(keepends=True)[:2]) + '{"id": "0", "broken'
    file.write_text(kept)  # killed in the middle of a line
    assert command.main([*args, "--resume"]) == 0
    assert file.read_text() == whole


LEAST = {
    "seed": 0,
    "temperature": 0.0,
    "max_tokens": 1,
    "draws": 1,
    "latent_arms": 0,
    "latent_sigma": 0.0,
    "surface_arms": 0,
    "corrupt_arms": 0,
    "equivariance_arms": 0,
    "audit_arms": 0,
    "max_candidates": 2,
    "max_answer_tokens": 2,
    "max_steps": 1,
    "min_step_tokens": 1,
    "max_step_tokens": 0,
}


def flags_of(values):
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def test_every_option_runs_at_its_least_value(tmp_path):
    assert set(LEAST) == set(command.FLAGS)
    data, out = write(tmp_path / "rows.jsonl", ROWS), tmp_path / "out"
    args = ["--data", data, "--out", str(out), "--questions=0", "--group=1", "--batch=3"]
    assert command.main([*args, *flags_of(LEAST)]) == 0
    assert json.loads((out / "summary.json").read_text())["trajectories"] == 3


@pytest.mark.parametrize("name", [*LEAST, "questions", "group", "batch", "injected"])
def test_every_option_below_its_least_value_is_refused(capsys, name):
    low = LEAST.get(name, {"group": 1, "batch": 1}.get(name, 0)) - 1
    args = ["--data", "nowhere.jsonl", "--out", "nowhere", *flags_of({name: low})]
    assert command.main(args) == 2
    said = capsys.readouterr().err
    assert f"--{name.replace('_', '-')} {low}: expected" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["latent_sigma", "temperature"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_scale_that_is_no_number_is_refused(capsys, name, value):
    args = ["--data", "nowhere.jsonl", "--out", "nowhere", *flags_of({name: value})]
    assert command.main(args) == 2
    assert f"{value}: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row, message",
    [
        ({"question": "q", "steps": "not a list"}, "rows.jsonl:2: 'steps'"),
        ({"question": "q", "steps": ["a"], "label": 5}, "rows.jsonl:2: 'label'"),
        ({"steps": ["a"]}, "rows.jsonl:2"),
    ],
)
def test_a_malformed_row_names_its_place(tmp_path, capsys, row, message):
    data = write(tmp_path / "rows.jsonl", [ROWS[0], row])
    assert command.main(["--data", data, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "nothing to analyse"),
        (["--data", "x.jsonl"], "--data needs --out"),
        (["--suite", "chain", "--data", "x"], "leave --data out"),
        (["--suite", "programs"], "--model tiny: its tokenizer cannot write a solution of task"),
        (["--suite", "shortcut", "--injected", "3"], "only --suite chain and programs judge steps"),
        (["--suite", "chain", "--resume"], "leave --resume out"),
        (["--latent-arms", "0", "--latent-sigma", "0.5"], "--latent-sigma 0.5: nothing uses it"),
        (["--suite", "nothing"], "invalid choice: 'nothing'"),
        (["--suite", "chain", "--draws", "0"], "--draws 0: expected at least 1"),
        (["--suite", "chain", "--group", "0"], "--group 0"),
        (["--suite", "chain", "--task", "gsm8k"], "not 'gsm8k'"),
        (["--data", "nowhere.jsonl", "--out", "x", "--task", "nope"], "nowhere.jsonl"),
        (["--sigma", "1"], "--sigma"),
    ],
)
def test_mistakes_of_the_command_line(tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    assert command.main(args) == 2
    assert message in capsys.readouterr().err

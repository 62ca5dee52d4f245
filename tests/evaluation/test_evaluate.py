"""The command on the tiny policy: as training evaluates, whole again after a kill, paired."""

import json
import shutil

import numpy as np
import pytest

from gccpo_jax import evaluate
from gccpo_jax.errors import UserError
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.sampling.answers import respond
from gccpo_jax.training.evaluate import evaluation_metrics, greedy_answers
from gccpo_jax.training.session import open_session
from tests.helpers.runs import small

OPTIONS = {"train": 40, "id": 6, "ood": 4, "max_operations": 3}
ARGUMENTS = ["--model", "tiny", "--task", "chain", "--split", "id", "--draws", "2"]
ARGUMENTS += ["--max-tokens", "40", "--batch", "4", "--questions", "6"]
ARGUMENTS += ["--beam", "2", "--beam-steps", "2", "--beam-branches", "2"]
ARGUMENTS += [word for pair in OPTIONS.items() for word in ("--option", "{}={}".format(*pair))]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Folder and summary of an evaluation."""
    out = tmp_path_factory.mktemp("evaluation") / "out"
    return out, evaluate.run_command([*ARGUMENTS, "--out", str(out)])


def rows_of(folder):
    lines = (folder / "responses.jsonl").read_text().splitlines()
    return {(row["split"], row["id"]): row for row in map(json.loads, lines)}


def test_figures_and_responses_are_those_of_training(done):
    out, summary = done
    config = small(eval__questions=6, eval__draws=2)
    session, params = open_session(config)
    splits = {"id": session.evaluation["id"]}
    greedy = greedy_answers(session.solver, params, splits, batch=4, max_tokens=40)
    drawn = respond(
        session.solver, params, splits["id"],
        rule=behaviour_rule(config.sampling), draws=2, seed=config.seed, batch=2, max_tokens=40,
    )  # fmt: skip
    trained = evaluation_metrics(session.solver.task, greedy)
    rows = rows_of(out)
    assert summary["splits"]["id"]["greedy"]["value"] == trained["id"]
    texts = [rows["id", item.id]["greedy"]["text"] for item in greedy["id"].items]
    assert texts == list(greedy["id"].texts[:, 0])
    assert summary["splits"]["id"]["mean@2"]["value"] == drawn.accuracy.mean
    texts = [[one["text"] for one in rows["id", item.id]["draws"]] for item in drawn.items]
    assert texts == drawn.texts.tolist()
    assert len({text for pair in texts for text in pair}) > 6  # the draws are draws


def test_the_last_line_is_the_summary_in_json(done, capsys):
    out, summary = done
    assert evaluate.main([*ARGUMENTS, "--out", str(out), "--resume"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == summary
    assert json.loads((out / "summary.json").read_text()) == summary
    assert "| id | 6 |" in (out / "summary.md").read_text()


@pytest.mark.parametrize("kept", [0, 700, -1])
def test_a_killed_evaluation_goes_on_to_the_same_file(done, tmp_path, kept):
    whole = (done[0] / "responses.jsonl").read_bytes()
    shutil.copytree(done[0], tmp_path / "out")
    (tmp_path / "out" / "responses.jsonl").write_bytes(whole[:kept])
    evaluate.run_command([*ARGUMENTS, "--out", str(tmp_path / "out"), "--resume"])
    assert (tmp_path / "out" / "responses.jsonl").read_bytes() == whole


def test_against_itself_there_is_no_difference(done, tmp_path):
    out, _ = done
    found = evaluate.run_command([*ARGUMENTS, "--out", str(out), "--resume", "--against", str(out)])
    assert found["against"]["id"]["greedy"]["difference"] == 0
    assert found["against"]["id"]["greedy"]["p"] == 1.0
    assert found["against"]["id"]["mean@2"]["low"] == 0.0


@pytest.mark.parametrize(
    "words, message",
    [
        (["--draws", "-1"], "--draws -1: expected at least 0"),
        (["--beam-value", "scorer"], "--beam-value scorer needs a --scorer"),
        (["--draws", "1", "--temperature", "0"], "leave --beam out"),
        (["--temperature", "nan"], "--temperature nan"),
        (["--temperature", "inf"], "--temperature inf: expected a number below"),
        (["--split", "other"], "--split other: task 'chain' has .*ood_depth"),
        (["--data", "a.jsonl"], "task 'chain' reads no file of questions"),
        (["--option", "id"], "--option id: expected NAME=VALUE"),
        (["--max-tokens", "512"], "--max-tokens 512: the model's context is 512 tokens"),
        (["--seed", "1"], "holds another evaluation .settings.seed: 0 there, 1 here"),
        ([], "holds this evaluation already; add --resume"),
        (["--against", "{out}/.."], "no responses.jsonl in it"),
        (["--against", "{out}", "--max-tokens", "41"], "max_tokens = 40 there and 41 here"),
    ],
)
def test_mistakes_are_said_in_one_line(done, words, message):
    words = [word.format(out=done[0]) for word in words]
    with pytest.raises(UserError, match=message) as error:
        evaluate.run_command([*ARGUMENTS, "--out", str(done[0]), *words])
    assert "\n" not in str(error.value)


def test_length_orders_the_batches_and_nothing_else(done):
    questions = list(rows_of(done[0]).values())
    lengths = [len(row["question"].split()) for row in questions]
    assert lengths == sorted(lengths, reverse=True)
    assert sorted(row["id"] for row in questions) == list(
        range(min(r["id"] for r in questions), max(r["id"] for r in questions) + 1)
    )
    assert np.isfinite([row["greedy"]["logp"] for row in questions]).all()

"""A run as a folder for others: the same answers, whatever it was stored as; the card."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

from gccpo_jax import export
from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.policy.tokenizer import load_tokenizer
from gccpo_jax.sampling.answers import GREEDY, respond
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.questions import load_questions
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from tests.helpers.adapted import adapted
from tests.helpers.paths import TESTS
from tests.helpers.runs import small

# See scripts/make_export_goldens.py.
TORCH = json.loads((TESTS / "data" / "export_answers.json").read_text())
TASK = chain(ChainConfig(train=40, id=6, ood=4, max_operations=3))


@pytest.fixture
def run(tmp_path):
    """What a finished run leaves, as far as an export reads it."""
    folder = tmp_path / "run"
    (folder / "evaluation").mkdir(parents=True)
    weights.save(folder / "policy", *weights.load("tiny"), load_tokenizer("tiny"))
    config = dataclasses.asdict(small())
    (folder / "config.json").write_text(json.dumps(config))
    summary = {"before": {}, "after": {"id": 0.75}, "steps": 4, "config": "quickstart-A0"}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "command.txt").write_text("python -m gccpo_jax.train --config quickstart.py\n")
    for step, scores in ((0, [0, 0, None, 0]), (4, [1, 1, 1, 0])):
        row = {"split": "id", "items": [1, 2, 3, 4], "scores": scores}
        (folder / "evaluation" / f"step_{step:06d}.jsonl").write_text(json.dumps(row) + "\n")
    return folder


def answers(model):
    opened = open_model(str(model), TASK)
    questions = load_questions(TASK, "id", opened.solver.tokenizer, 48)
    found = respond(
        opened.solver, opened.params, questions,
        rule=GREEDY, draws=1, seed=0, batch=6, max_tokens=40,
    )  # fmt: skip
    return found.texts.ravel().tolist()


def test_the_greedy_answers_are_those_of_pytorch_and_the_card_says_how_it_was_made(run, tmp_path):
    pytest.importorskip("gguf")
    out = tmp_path / "out"
    (tmp_path / "summary.md").write_text("| split | mean@8 |\n")
    words = [str(run), "--out", str(out), "--gguf", "F16", "--licence", "apache-2.0"]
    words += ["--evaluation", str(tmp_path)]
    assert export.main([*words, "--shard-gb", "0.001"]) == 0
    expected = TORCH["float32"]
    assert answers(out) == expected and answers(out / "model-F16.gguf") == expected
    assert len(list(out.glob("model-*.safetensors"))) == 3
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["max_new_tokens"] == 40 and generation["eos_token_id"] == 1
    card = (out / "README.md").read_text()
    for part in (
        'license: "apache-2.0"',
        "| base model | `tiny` |",
        "| seed | 0 |",
        "| split | mean@8 |",
        "config `quickstart-A0`: credit `gated_gae`, objective `ppo`",
        "| id | 4 | 0.0 [0.0, 56.1] (25.0% unscorable) | 75.0 [30.1, 95.4] |",
        "python -m gccpo_jax.train --config quickstart.py\npython -m gccpo_jax.export ",
    ):
        assert part in card, card
    assert "not stated" in card


@pytest.mark.slow
def test_bfloat16_is_what_is_loaded_and_answers_as_it_does_in_pytorch(run, tmp_path):
    export.run_command([str(run), "--out", str(tmp_path / "out"), "--dtype", "bfloat16"])
    arch, params = weights.load(tmp_path / "out")
    assert arch.dtype == "bfloat16" and params["embed"].dtype == jnp.bfloat16
    assert answers(tmp_path / "out") == TORCH["bfloat16"]


@pytest.mark.slow
def test_merged_adapters_answer_as_in_pytorch_merged_or_beside_the_model(tmp_path):
    adapted(tmp_path)
    export.run_command([str(tmp_path / "merged"), "--out", str(tmp_path / "out")])
    assert answers(tmp_path / "out") == TORCH["adapted"] != TORCH["float32"]


def test_mistakes_are_said_in_one_line(run, tmp_path, capsys):
    cases = [
        ([str(tmp_path / "none")], "no such directory"),
        ([str(run), "--gguf", "Q2"], "invalid choice: 'Q2'"),
        ([str(run), "--shard-gb", "0"], "--shard-gb 0.0: expected at least 1e-06"),
        ([str(run), "--shard-gb", "inf"], "--shard-gb inf: expected a number below"),
        ([str(run), "--evaluation", "none"], "none/summary.md: cannot be read"),
        (["tiny", "--evaluation", "none"], "--evaluation: tiny is no run"),
    ]
    for words, message in cases:
        assert export.main([*words, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    (run / "policy").rename(run / "checkpoints")
    with pytest.raises(UserError, match="a run without policy/, which comes at its end"):
        export.run_command([str(run), "--out", str(tmp_path / "out")])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UserError, match="exists and is not a model"):
        export.run_command(["tiny", "--out", str(tmp_path / "mine")])

"""`python -m gccpo_jax.variance`: what it measures is training's own gradient."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train, variance
from tests.helpers.paths import ROOT
from tests.helpers.runs import metrics

QUICKSTART = str(ROOT / "configs" / "quickstart.py")


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--presets=A99"], "no preset 'A99'"),
        (["--presets=A0,A0"], "stands there twice"),
        (["--presets=dapo"], "config.sampling.dynamic=0"),
        (["--config.policy.lora.rank=4"], "config.policy.lora.rank = 4: the gradient"),
        (["--batches=2"], "expected at least 3"),
        (["--tapes=0"], "expected at least 1"),
        (["--config.optim.lr=x"], "config.optim.lr"),
        (["--bogus"], "unknown argument"),
        (["--out=gs://bucket"], "on this machine"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(flags, words, capsys):
    assert variance.main(["--config", QUICKSTART, *flags]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said


def test_what_the_tokens_of_a_trajectory_have_in_common():
    advantage = jnp.array([[[1.0, 3.0, 9.0], [5.0, 5.0, 5.0]]])
    mask = jnp.array([[[True, True, False], [False, False, False]]])
    found = variance.trajectory_mean(advantage, mask)
    np.testing.assert_array_equal(found, [[[2, 2, 0], [0, 0, 0]]])


@pytest.mark.slow
def test_the_command_measures_the_gradient_of_the_first_update(tmp_path, monkeypatch):
    """Batch 1, tape 1 is step 1 of a run: the norm that training logs, to the last digits."""
    sizes = {
        "batch_size": 4, "group_size": 4, "optim.micro_batch": 2, "task.options.train": 64,
        "task.options.id": 4, "eval.ood_questions": 0, "checkpoint.every": 0,
    }  # fmt: skip
    flags = [f"--config.{path}={value}" for path, value in sizes.items()]
    argv = ["--config", f"{QUICKSTART}:A0", "--config.steps=1", "--workdir", str(tmp_path / "run")]
    assert train.cli.main(train.train_and_evaluate, "", [*argv, *flags]) == 0
    (logged,) = metrics(tmp_path / "run")
    kept, measure = {}, variance.measure

    def keep(name, *rest):
        kept[name] = measure(name, *rest)
        return kept[name]

    monkeypatch.setattr(variance, "measure", keep)
    argv = ["--config", QUICKSTART, "--presets", "A0", "--batches", "3", "--tapes", "1", *flags]
    assert variance.main([*argv, "--out", str(tmp_path)]) == 0
    whole = kept["A0"].whole
    assert logged["grad_norm"] > 0
    assert np.linalg.norm(whole[0, 0]) == pytest.approx(logged["grad_norm"], rel=1e-5)
    assert not np.array_equal(whole[0], whole[1])
    row = json.loads((tmp_path / "variance.json").read_text())["presets"]["A0"]
    assert row["tokens"] > 0 == row["steps_share"]["estimate"]
    assert "cosine of two batches" in (tmp_path / "variance.md").read_text()
    assert (tmp_path / "variance.png").exists()

"""`python -m gccpo_jax.variance`: what it measures is training's own gradient."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax import train, variance
from gccpo_jax.training.session import open_session
from tests.helpers.paths import ROOT
from tests.helpers.runs import metrics, small

QUICKSTART = str(ROOT / "configs" / "quickstart.py")


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--presets=A99"], "no preset 'A99'"),
        (["--presets=A0,A0"], "stands there twice"),
        (["--presets=dapo"], "config.sampling.dynamic=0"),
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
def test_the_gradient_is_that_of_the_first_update(tmp_path):
    """Batch 1, tape 1 is step 1 of a run: the norm that training logs, to the last digits."""
    alone = {f"counterfactual__{name}_arms": 0 for name in ("latent", "surface")}
    config = small(steps=1, eval__ood_questions=0, objective__beta=0.0, credit__gate=False, **alone)
    train.train_and_evaluate(config, "run", tmp_path)
    session, params = open_session(config)
    found = variance.measure("A8", config, session, params, batches=2, tapes=1)
    logged = metrics(tmp_path)[0]
    assert np.linalg.norm(found.whole[0, 0]) == pytest.approx(logged["grad_norm"], rel=1e-5)
    assert not np.array_equal(found.whole[0], found.whole[1])
    assert found.trajectory.shape == found.whole.shape and np.any(found.whole - found.trajectory)


@pytest.mark.slow
def test_the_command_writes_a_page(tmp_path):
    sizes = {"batch_size": 2, "group_size": 4, "optim.micro_batch": 2, "task.options.train": 64}
    flags = [f"--config.{path}={value}" for path, value in sizes.items()]
    argv = ["--config", QUICKSTART, "--presets", "A0", "--batches", "3", *flags]
    assert variance.main([*argv, "--out", str(tmp_path)]) == 0
    row = json.loads((tmp_path / "variance.json").read_text())["presets"]["A0"]
    assert row["tokens"] > 0 == row["steps_share"]["estimate"]
    assert "cosine of two batches" in (tmp_path / "variance.md").read_text()
    assert (tmp_path / "variance.png").exists()

"""Every tracker is told the metrics and the completions, offline, through its own client.

Clients that are not installed are skipped: they are the extras `wandb`, `mlflow` and `trackio`.
"""

import importlib.machinery
import json
import sqlite3

import pytest

from gccpo_jax import train
from gccpo_jax.config import LogConfig, default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.runtime import trackers
from gccpo_jax.runtime.log import RunLog
from tests.runtime.test_live_view import SAMPLE

METRICS = {"accuracy": 0.5, "eval/id_mean@4": 0.25, "loss": float("nan"), "kl": None}


def told(workdir, name, resumes=False):
    """A run that tells one tracker two steps; its tracker."""
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(json.dumps({"steps": 2, "log": {name: "project"}}))
    found = trackers.open_trackers(LogConfig(**{name: "project"}), workdir, resumes=resumes)
    log = RunLog(workdir, 2, False, told=found)
    for step in (1, 2):
        log.completions(step, [SAMPLE, SAMPLE])
        log.step(step, METRICS, "")
    log.close()
    assert log._told == found, "one was left out"
    return found[0]


@pytest.mark.parametrize("spec", [None, importlib.machinery.ModuleSpec("a folder", None)])
def test_a_client_that_is_missing_is_refused_before_anything_is_loaded(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(train, "open_session", lambda config: pytest.fail("it was loaded"))
    for name in trackers.TRACKERS:
        config = default()
        with config.unlocked():
            config.log[name] = "project"
        with pytest.raises(UserError, match=f"config.log.{name} = 'project': .* not installed"):
            train.train_and_evaluate(freeze(config), "any", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path, capsys):
    class Failing:
        name, run_id, where, steps = "failing", "1", "nowhere", []

        def step(self, step, metrics):
            self.steps.append((step, metrics))
            if step == 2:
                raise OSError("the network\nis away")

        completions = step

        def close(self):
            pytest.fail("it is told nothing more")

    log = RunLog(tmp_path, 3, False, told=[Failing()])
    for step in (1, 2, 3):
        log.step(step, METRICS, "")
    log.close()
    assert Failing.steps == [(n, {"accuracy": 0.5, "eval/id_mean@4": 0.25}) for n in (1, 2)]
    out = capsys.readouterr().out
    assert "warning: failing failed (OSError: the network is away); the run goes on" in out
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.filterwarnings("ignore")  # the clients' own
def test_wandb(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    first = told(tmp_path / "run", "wandb")
    again = told(tmp_path / "run", "wandb", resumes=True)
    assert again.run_id == first.run_id and "wandb sync" in first.where
    place = next((tmp_path / "run/wandb").glob("offline-run-*"))
    written = next(place.glob("*.wandb")).read_bytes()
    assert b"accuracy" in written and b"eval/id_mean@4" in written
    table = json.loads(next((place / "files/media/table").glob("completions_1_*")).read_text())
    assert table["columns"] == list(trackers.COLUMNS)
    assert table["data"] == trackers.table([SAMPLE, SAMPLE])


@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    pytest.importorskip("sqlalchemy", reason="needs the extra `mlflow`")
    monkeypatch.chdir(tmp_path)  # artifacts go beside the store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    first = told(tmp_path / "run", "mlflow")
    again = told(tmp_path / "run", "mlflow", resumes=True)
    assert again.run_id == first.run_id
    client = mlflow.MlflowClient()
    found = client.get_run(first.run_id)
    assert found.data.params == {"steps": "2", "log.mlflow": "project"}
    assert found.info.status == "FINISHED" and found.data.metrics["eval/id_mean-4"] == 0.25
    history = client.get_metric_history(first.run_id, "accuracy")
    assert {row.step for row in history} == {1, 2}
    (experiment,) = client.search_experiments(filter_string="name = 'project'")
    artifacts = client.download_artifacts(first.run_id, f"{trackers.TABLE}.json")
    with open(artifacts) as file:
        assert json.load(file)["columns"] == list(trackers.COLUMNS)


@pytest.mark.filterwarnings("ignore")
def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio", reason="needs the extra `trackio`")
    first = told(tmp_path / "run", "trackio")
    again = told(tmp_path / "run", "trackio", resumes=True)
    assert again.run_id == first.run_id and first.run_id.startswith("run-")
    with sqlite3.connect(next((tmp_path / "trackio").glob("*.db"))) as store:
        rows = store.execute("select run_name, step, metrics from metrics").fetchall()
    assert {row[0] for row in rows} == {first.run_id} and {row[1] for row in rows} == {1, 2}
    text = " ".join(row[2] if isinstance(row[2], str) else str(row[2]) for row in rows)
    assert "accuracy" in text and "completions" in text

"""The notebooks: committed without outputs, and they run from top to bottom."""

import json

import pytest

from tests.helpers.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def names(paths):
    return [path.stem for path in paths]


def test_all_notebooks_are_there():
    ours = ["analyse_your_model", "quickstart", "reward_as_a_library", "study", "train_tpu"]
    assert names(NOTEBOOKS) == ours
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert all(f"[`{name}`](../notebooks/{name}.ipynb)" in page for name in ours)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebooks_begin_with_a_badge_and_an_install_cell(path):
    about, install = json.loads(path.read_text(encoding="utf-8"))["cells"][:2]
    assert "colab-badge.svg" in "".join(about["source"])
    assert "%pip install -q './gccpo-jax[notebooks]'" in "".join(install["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebooks_are_committed_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    for cell in cells:
        assert cell["outputs"] == [], "".join(cell["source"])
        assert cell["execution_count"] is None, "".join(cell["source"])


def run(name, monkeypatch, tmp_path):
    """Runs a notebook in an empty directory; returns what it printed and how many plots it drew."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: .[notebooks]")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: .[notebooks]")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: .[notebooks]")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: .[notebooks]")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("GCCPO_NOTEBOOK_STEPS", "2")
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",  # the kernel of this interpreter
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises where a cell does
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.output_type == "error"]
    data = [out.get("data", {}) for out in outputs]
    printed = [out.get("text", "") for out in outputs]
    printed += [d.get("text/markdown", d.get("text/html", d.get("text/plain", ""))) for d in data]
    return "\n".join(printed), sum("image/png" in d for d in data)


# Sockets and event loops of the kernel's client are its own business.
kernel = pytest.mark.filterwarnings("default")


@kernel
@pytest.mark.slow
def test_quickstart_runs(monkeypatch, tmp_path):
    printed, plots = run("quickstart", monkeypatch, tmp_path)
    assert plots == 2
    assert "| id |" in printed and "| ood_depth |" in printed  # the table
    assert "step 2/2" in printed
    assert "step 1 |" in printed  # a solution cut into steps
    (summary,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(summary.read_text())["steps"] == 2


@kernel
@pytest.mark.slow
def test_reward_as_a_library_runs(monkeypatch, tmp_path):
    printed, plots = run("reward_as_a_library", monkeypatch, tmp_path)
    assert plots == 3
    for number in ("0.0315967", "0.984202", "0.60625", "[0.8  0.7  0.75]", "0.86588"):
        assert number in printed, number
    assert "not usable [0. 0. 0.]" in printed
    assert "gated effects {'sound': 0.99" in printed  # the reward in a trainer of one's own


@kernel
@pytest.mark.slow
def test_analyse_your_model_runs(monkeypatch, tmp_path):
    printed, plots = run("analyse_your_model", monkeypatch, tmp_path)
    assert plots == 2
    assert "Kira 12 - 5 = 8 cards" in printed and "gold 7" in printed
    assert "<iframe srcdoc=" in printed  # the page of the report


@kernel
@pytest.mark.slow
def test_train_tpu_runs(monkeypatch, tmp_path):
    printed, _ = run("train_tpu", monkeypatch, tmp_path)
    assert "4 cpu" in printed and "step 1/1" in printed
    assert "'data': 2, 'fsdp': 2, 'tensor': 1" in printed


@kernel
@pytest.mark.slow
def test_study_runs(monkeypatch, tmp_path):
    printed, plots = run("study", monkeypatch, tmp_path)
    assert plots == 3
    assert "| before |" in printed and "tokens per update" in printed

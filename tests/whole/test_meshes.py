"""One device is eight virtual devices is two processes of four, for every kind of mesh.

Rollouts are the same tokens. Parameters differ by the order in which sums are taken: each
array by at most 1e-6 of its norm. The quickstart, made small, in processes of its own.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from gccpo_jax.policy.packing import laid
from tests.helpers.paths import ROOT
from tests.helpers.processes import ended, environment, flags, free_port, lines
from tests.helpers.runs import rollouts

pytestmark = pytest.mark.xdist_group("meshes")
STEPS = 3
OPTIONS = [
    f"--config.steps={STEPS}", "--config.batch_size=8", "--config.group_size=4",
    "--config.task.options.train=200", "--config.eval.questions=4", "--config.eval.batch=4",
    "--config.eval.max_tokens=24",
    "--config.eval.ood_questions=0", "--config.log.rollouts_every=1", "--config.log.rollouts=8",
    "--config.checkpoint.every=2", "--config.log.tensorboard=false",
]  # fmt: skip
MESHES = {
    "data": ["--config.mesh.data=8"],
    "fsdp": ["--config.mesh.fsdp=8"],
    "tensor": ["--config.mesh.data=2", "--config.mesh.tensor=4"],
    "mixed": [f"--config.mesh.{axis}=2" for axis in ("data", "fsdp", "tensor")],
}
LEAN = [
    "--config.counterfactual.value=scored", "--config.counterfactual.surface_arms=0",
    "--config.sampling.max_tokens=160", "--config.sampling.temperature=3",
]  # fmt: skip
"""What compiles in half the time, with responses so long that they share rows in the update; the
mixed mesh runs the whole method."""


QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def begin(workdir, devices, *more):
    """The quickstart's process or processes; `devices`: how many each has."""
    port = free_port()
    words = [sys.executable, "-m", "gccpo_jax.train", "--config", "configs/quickstart.py"]
    words += [*OPTIONS, *more, "--workdir", str(workdir)]
    return [
        subprocess.Popen(
            [*words, *(flags(port, n, len(devices)) if len(devices) > 1 else ())],
            env=environment()
            | {"XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count={count}"},
            cwd=ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for n, count in enumerate(devices)
    ]  # fmt: skip


def finish(*processes):
    codes, said = ended(processes, 600)
    assert not any(codes), said


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Two runs of one device: the lean method and the whole one."""
    folder = tmp_path_factory.mktemp("one")
    finish(*begin(folder / "lean", [1], *LEAN), *begin(folder / "whole", [1]))
    first = np.reshape([row["length"] for row in rollouts(folder / "lean", 1)], (8, 4))
    assert laid(first, 160) is not None, "responses should share rows"
    return folder


def same(ours, theirs):
    """Tokens bit by bit, what is computed from them closely, parameters to 1e-6."""
    assert lines(ours) == lines(theirs) == STEPS
    names = [file.name for file in sorted((theirs / "rollouts").glob("*.jsonl.gz"))]
    assert len(names) == STEPS
    for name in names:
        step = int(name[5:11])
        found, wanted = (rollouts(run, step) for run in (ours, theirs))
        assert len(found) == len(wanted) == 8 * 4
        for a, b in zip(found, wanted, strict=True):
            for key in ("question_id", "text", "length", "stopped", "outcome", "gold"):
                assert a[key] == b[key], name
            pieces = [[step["text"] for step in row["steps"]] for row in (a, b)]
            assert pieces[0] == pieces[1]
            # From laws that differ in their last bits, by way of logarithms; some are above 1.
            assert a["advantage"] == pytest.approx(b["advantage"], abs=1e-4)
    arrays = [
        safetensors.numpy.load_file(run / "policy" / "model.safetensors") for run in (ours, theirs)
    ]
    assert arrays[0].keys() == arrays[1].keys()
    for name, wanted in arrays[1].items():
        apart = arrays[0][name] - wanted
        assert np.linalg.norm(apart) <= 1e-6 * np.linalg.norm(wanted), name
        assert np.abs(apart).max() < 3e-6, name  # Adam divides gradients near 0 by their size
    summaries = [json.loads((run / "summary.json").read_text()) for run in (ours, theirs)]
    assert summaries[0] == summaries[1]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_eight_devices_and_two_processes_of_four_are_one_device(one, tmp_path, mesh):
    method, reference = ([], one / "whole") if mesh == "mixed" else (LEAN, one / "lean")
    layouts = {"eight": [8], "two": [4, 4]}
    if mesh == "fsdp":  # two processes of it: the test below
        del layouts["two"]
    options = [*method, *MESHES[mesh]]
    runs = (begin(tmp_path / name, devices, *options) for name, devices in layouts.items())
    finish(*(process for run in runs for process in run))
    for name in layouts:
        same(tmp_path / name, reference)


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_device_began(one, tmp_path):
    """On the mesh `fsdp`."""
    part = tmp_path / "part"
    shutil.copytree(one / "lean", part)
    shutil.rmtree(part / "checkpoints" / str(STEPS))
    for name in ("summary.json", "policy", "rollouts"):
        gone = part / name
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    first = json.loads((part / "metrics.jsonl").read_text().splitlines()[1])
    finish(*begin(part, [4, 4], *LEAN, *MESHES["fsdp"], "--resume"))
    again = json.loads((part / "metrics.jsonl").read_text().splitlines()[1])
    assert first == again, "the first two steps are not run again"
    for step in (1, 2):
        for kind in ("jsonl.gz", "txt"):
            name = f"rollouts/step_{step:06d}.{kind}"
            assert not (part / name).exists()
            shutil.copy(one / "lean" / name, part / name)
    same(part, one / "lean")

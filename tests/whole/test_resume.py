"""A run that is killed at any moment, again and again, ends as the run that was left alone."""

import json
import random
import signal
import statistics

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from gccpo_jax import sft
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.checkpoints import complete
from gccpo_jax.runtime.workdir import HELD, LOCK, claim_workdir
from tests.helpers.processes import lines, start
from tests.helpers.runs import metrics, small

STEPS = 12
OPTIONS = [
    f"--config.steps={STEPS}", "--config.optim.epochs=2", "--config.data.shuffle=true",
    "--config.sampling.dynamic=50", "--config.objective.beta=0.01", "--config.eval.every=4",
    "--config.checkpoint.every=1", "--config.checkpoint.keep=2", "--config.log.rollouts_every=1",
]  # fmt: skip

# `train` that kills itself the n-th time it comes to a place, some seconds later or at once.
PROGRAM = """
import os, signal, sys, threading
from gccpo_jax import train
from gccpo_jax.policy import weights
from gccpo_jax.runtime import checkpoints, cli, timing

place, count, delay = os.environ["KILL"].split()
left = int(count)

def at(name):
    global left
    left -= name == place
    if name == place and left == 0:
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        threading.Timer(float(delay), kill).start() if float(delay) else kill()

def before(owner, attribute, name):
    what = getattr(owner, attribute)
    def told(*arguments, **options):
        at(name or arguments[1])
        return what(*arguments, **options)
    setattr(owner, attribute, told)

seal = checkpoints.seal
def sealed(directory):
    at("seal")
    seal(directory)
    at("publish")

before(timing.Stopwatch, "__call__", None)
before(checkpoints.Checkpoints, "save", "save")
before(weights, "_write_jsons", "policy")
checkpoints.seal = sealed
sys.exit(cli.main(train.train_and_evaluate, "", sys.argv[1:]))
"""


NEVER = ("never", 1, 0)


def begin(directory, workdir, *more, kill=NEVER, cache="read"):
    """The run, to be killed at `kill`: place, how often it has come there, seconds after that.

    Who may be killed only reads JAX's cache of compiled programs ("read"), or does without
    ("none"): JAX does not write a file of it at once.
    """
    variables = {
        "KILL": " ".join(map(str, kill)),
        "JAX_ENABLE_COMPILATION_CACHE": str(cache != "none"),
        "JAX_COMPILATION_CACHE_DIR": str(directory / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0" if cache == "write" else "1e9",
    }
    program = ["-c", PROGRAM]
    return start("train", directory, workdir, *OPTIONS, *more, program=program, variables=variables)


def ended(process, code):
    _, said = process.communicate(timeout=300)
    assert process.returncode == code, said


def moments(rows):
    """Ten: place, how often the process comes there first, seconds after that, and the cache.

    The seconds are a part of what the place takes, here where `rows` were measured.
    """
    rng = random.Random(6)
    places = ("sample", "update")
    seconds = {
        name: statistics.median(row[f"{name}_seconds"] / (row["refills"] + 1) for row in rows[1:])
        for name in places
    }
    drawn = [
        *[(name, 1, rng.random() * rows[0][f"{name}_seconds"], "none") for name in places],
        *[(name, rng.randint(1, 3), rng.random() * seconds[name], "read") for name in 2 * places],
        *[("save", rng.randint(1, 2), rng.random() * 0.1, "read") for _ in range(2)],
        *[(name, rng.randint(1, 2), 0, "read") for name in ("seal", "publish")],
    ]
    rng.shuffle(drawn)
    return drawn


def saved(workdir):
    """Every array of the last checkpoint as bytes, and the position."""
    manager = ocp.CheckpointManager((workdir / "checkpoints").absolute())
    items = {"state": ocp.args.StandardRestore(), "position": ocp.args.JsonRestore()}
    found = manager.restore(STEPS, args=ocp.args.Composite(**items))
    manager.close()
    leaves = jax.tree_util.tree_leaves_with_path(found["state"])
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}
    return arrays, found["position"]


def files(workdir):
    """All that a run leaves and that holds no times."""
    kept = ("before.json", "config.json", "summary.json", "policy/*", "rollouts/*")
    found = [file for pattern in kept for file in workdir.glob(pattern)]
    return {str(file.relative_to(workdir)): file.read_bytes() for file in found}


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_goes_on_exactly(tmp_path):
    """Two inner epochs, shuffled questions, dynamic sampling, a reference, evaluations."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    ended(begin(tmp_path, whole, cache="write"), 0)
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()][1:]
    assert any(row["refills"] for row in rows) and all(row["update_norm"] > 0 for row in rows)
    done, halved = [], 0
    for *kill, cache in moments(rows):
        more = ["--resume"] if (part / "config.json").exists() else []
        ended(begin(tmp_path, part, *more, kill=kill, cache=cache), -signal.SIGKILL)
        older = complete(part / "checkpoints")[:-1]
        if older:  # as one that was being deleted
            next(file for file in sorted(older[0].rglob("*")) if file.is_file()).unlink()
            halved += 1
        done.append(lines(part))
    assert len(done) == 10 and 3 < max(done) < STEPS and halved > 1, "in the middle"
    ended(begin(tmp_path, part, "--resume", kill=("policy", 1, 0)), -signal.SIGKILL)
    ended(begin(tmp_path, part, "--resume"), 0)
    assert metrics(part) == metrics(whole)
    assert saved(part) == saved(whole)
    assert files(part) == files(whole)
    names = [{path.name for path in (run / "checkpoints").iterdir()} for run in (part, whole)]
    assert names[0] == names[1] == {str(STEPS), str(STEPS - 1)}
    hidden = [path.name for path in part.rglob(".*") if path.name != HELD]
    assert not hidden, "left over by the killed"


@pytest.mark.slow
def test_a_finished_run_that_is_given_more_steps_is_the_longer_run(tmp_path):
    options = {"sampling__max_tokens": 48, "eval__ood_questions": 0, "optim__warmup": 3}
    for name, steps in (("part", 2), ("part", 4), ("whole", 4)):
        resume = (tmp_path / name).exists()
        sft.fine_tune(small(steps=steps, **options), "sft", tmp_path / name, resume=resume)
    ours, theirs = (
        [{k: v for k, v in row.items() if "/" not in k} for row in metrics(tmp_path / name)]
        for name in ("part", "whole")
    )
    assert ours == theirs
    for name in ("summary.json", "policy/model.safetensors", "config.json"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_process_that_was_killed_at_once_does_not_keep_a_run_from_starting(tmp_path):
    for name in (LOCK, ".probe-12", ".config.json-12"):
        (tmp_path / name).touch()
    with claim_workdir(tmp_path, small(), resume=False):
        assert {path.name for path in tmp_path.iterdir()} == {LOCK, HELD, "config.json"}


def test_a_file_of_somebody_else_does(tmp_path):
    (tmp_path / ".config").touch()
    with pytest.raises(UserError, match="not empty and not a run"):
        with claim_workdir(tmp_path, small(), resume=False):
            pass


def test_what_a_killed_process_had_not_finished_is_cleared(tmp_path):
    with claim_workdir(tmp_path, small(), resume=False):
        pass
    (tmp_path / "rollouts").mkdir()
    (tmp_path / ".policy-j0ukr_u5/new").mkdir(parents=True)
    gone = [".metrics.jsonl-12", "rollouts/.step_000001.txt-1", ".policy-j0ukr_u5/new/config.json"]
    stays = [".nfs-0001", "notes.json-1", ".notes-1"]
    for name in gone + stays:
        (tmp_path / name).touch()
    with claim_workdir(tmp_path, small(), resume=True):
        left = {path.name for path in tmp_path.rglob("*")}
    assert left == {LOCK, HELD, "config.json", "rollouts", *stays}

"""Several processes: how they meet, what they agree on, and that all end when one does."""

import signal

import jax
import numpy as np
import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.report import read_run
from gccpo_jax.runtime import cli, distributed, sharding
from tests.helpers.processes import ended, flags, free_port, lines, start, wait_for

ONE_EACH = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"


def pair(directory, workdir, *more, second=(), programs=(None, None), port=None):
    """Two processes with a device each, started as one run; `second`: what the second adds."""
    port = port or free_port()
    return [
        start(
            "train", directory, workdir, *more, *(second if n else ()), *flags(port, n),
            program=programs[n], variables={"XLA_FLAGS": ONE_EACH},
        )
        for n in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words, told",
    [
        (["--process", "1"], "need --processes"),
        (["--processes", "2"], "together with --coordinator HOST:PORT and --process I"),
        (["--processes", "many"], "--processes many: expected a number"),
        (flags(1, 2), "--process 2: expected 0 to 1 of 2"),
        (["--processes=2", "--process=0", "--coordinator=host"], "host: expected HOST:PORT"),
        ([*flags(1, 0), "--wait", "0"], "--wait 0: expected seconds"),
        (["--processes", "auto", "--process", "0"], "or 'auto' without them"),
    ],
)
def test_flags_that_do_not_belong_together(words, told):
    with pytest.raises(UserError, match=told):
        cli.place_of(words)


def test_flags():
    assert cli.place_of(["--resume"]) is None
    assert cli.place_of(["--processes", "auto"]) == distributed.Place()
    assert cli.place_of(flags(5, 1)) == distributed.Place("localhost:5", 2, 1, 300)
    with pytest.raises(UserError, match="--processes needs --workdir"):
        cli.parse("", ["--config", "configs/quickstart.py", *flags(5, 1)])


def test_one_process_is_alone():
    assert distributed.alone() and distributed.is_first() and distributed.largest(3) == 3
    assert distributed.end(2, "") == 2
    rows = distributed.divided(lambda n: np.full(2, n), 3)
    np.testing.assert_array_equal(rows, [[0, 0], [1, 1], [2, 2]])


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 1), (16, 1, 1)])
def test_a_mesh_of_several_processes_takes_all_their_devices(monkeypatch, sizes):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=f"is {np.prod(sizes)} devices, the 2 processes have 8"):
        sharding.make_mesh(*sizes)
    assert sharding.make_mesh(8).size == 8


def test_a_process_that_finds_no_other_says_where_it_looked(tmp_path):
    port = free_port()
    alone = start("train", tmp_path, tmp_path / "run", *flags(port, 1), "--wait", "2")
    (code,), (said,) = ended([alone], 100)
    assert code == 2 and f"localhost:{port}" in said and "within 2 s" in said, said
    assert not (tmp_path / "run").exists()


def test_a_mistake_of_one_process_ends_both(tmp_path):
    both = pair(tmp_path, tmp_path / "run", "--config.mesh.data=2",
                second=["--config.policy.path=nothing_here"])  # fmt: skip
    codes, said = ended(both)
    assert codes == [1, 2], said
    assert "error: " in said[1] and "nothing_here" in said[1]
    assert "error: ended because of process 1: " in said[0] and "nothing_here" in said[0]


def test_both_refuse_a_mesh_that_leaves_a_process_out(tmp_path):
    codes, said = ended(pair(tmp_path, tmp_path / "run"))
    assert set(codes) <= {1, 2} and 2 in codes
    assert "is 1 devices, the 2 processes have 2" in said[codes.index(2)]


BREAKS = """
import sys
from gccpo_jax import train
from gccpo_jax.runtime import cli
from gccpo_jax.training.run import Run
finish = Run.finish_step
def finish_step(self, config, step, *rest):
    if step == 2:
        raise RuntimeError("a fault in step 2")
    finish(self, config, step, *rest)
Run.finish_step = finish_step
sys.exit(cli.main(train.train_and_evaluate, "", sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_a_fault_of_one_process_in_a_step_ends_both(tmp_path, who):
    programs = [["-c", BREAKS] if n == who else None for n in range(2)]
    both = pair(tmp_path, tmp_path / "run", "--config.mesh.data=2", programs=programs)
    codes, said = ended(both)
    assert codes == [1, 1], said
    assert "RuntimeError: a fault in step 2" in said[who]
    assert f"ended because of process {who}: RuntimeError('a fault in step 2')" in said[1 - who]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_the_same_step(tmp_path):
    """And one process goes on with what two began, to the end of a run of one."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    options = ["--config.log.rollouts_every=1", "--config.log.rollouts=2"]
    both = pair(tmp_path, part, *options, "--config.mesh.data=2")
    wait_for(lambda: lines(part) >= 2, both[0], seconds=240)
    both[1].send_signal(signal.SIGTERM)
    codes, said = ended(both)
    assert codes == [143, 143], said
    assert "stopped after step" in said[0] and "--resume" in said[0]
    assert "stopped" not in said[1], "one of them says so"
    done = lines(part)
    assert 2 <= done < 6 and (part / "checkpoints" / str(done)).is_dir()
    one = {"XLA_FLAGS": ONE_EACH}
    runs = [start("train", tmp_path, part, *options, "--resume", variables=one)]
    runs += [start("train", tmp_path, whole, *options, variables=one)]
    codes, said = ended(runs)
    assert codes == [0, 0], said
    assert lines(part) == lines(whole) == 6
    recorded = [[row.text for row in read_run(run).trajectories] for run in (part, whole)]
    assert recorded[0] == recorded[1] != []

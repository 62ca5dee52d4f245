"""What a run recorded comes back as it was written; what is older is refused in a line."""

import gzip
import json

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.report import read_run
from tests.helpers.recorded import group, metric_rows, write_run


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [*group(), *group(row=1), *group(at=10)]
    run = read_run(write_run(tmp_path / "run", rows))
    assert run.trajectories == tuple(rows)
    assert run.metrics == tuple(metric_rows()) and run.summary is None and run.name == "run"
    assert hash(run.trajectories[0])  # tuples all the way down


def test_a_line_that_is_being_written_is_left_for_later(tmp_path):
    workdir = write_run(tmp_path / "run", [])
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "accur')
    assert read_run(workdir).metrics[-1]["step"] == 12


def edited(workdir, change):
    file = workdir / "rollouts/step_000001.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    change(rows[0])
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda run: (run / "config.json").unlink(), "not a run"),
        (
            lambda run: (run / "rollouts/step_000001.jsonl.gz").rename(
                run / "rollouts/step_000001.jsonl"
            ),
            "written before rollouts had a version",
        ),
        (lambda run: edited(run, lambda row: row.update(version=0)), "version 0 .*expected 1"),
        (lambda run: edited(run, lambda row: row.pop("gold")), "damaged .*gold"),
        (lambda run: edited(run, lambda row: row.update(more=1)), "damaged .*more"),
        (lambda run: (run / "rollouts/step_000001.jsonl.gz").write_bytes(b"\x1f\x8b"), "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, harm, words):
    workdir = write_run(tmp_path / "run", group())
    harm(workdir)
    with pytest.raises(UserError, match=words):
        read_run(workdir)

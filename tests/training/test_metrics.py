"""Alarms: which numbers cross a threshold, what is said, and that the run goes on."""

import types

import pytest

from gccpo_jax import sft
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.log import RunLog
from gccpo_jax.training.metrics import alarms
from gccpo_jax.training.run import Run
from tests.helpers.runs import metrics, records, small


def thresholds(kl=0.0, entropy=0.0):
    return types.SimpleNamespace(kl_alarm=kl, entropy_alarm=entropy)


@pytest.mark.parametrize(
    ("found", "limits", "crossed"),
    [
        ((0.5, 0.2), (0.4, 0.3), ["kl", "entropy"]),
        ((0.5, 0.2), (0.4, 0.0), ["kl"]),
        ((0.5, 0.2), (0.0, 0.3), ["entropy"]),
        ((0.5, 0.2), (0.0, 0.0), []),
        ((0.4, 0.3), (0.4, 0.3), []),
        ((-0.1, 9.0), (0.4, 0.3), []),
        ((float("nan"), float("nan")), (0.4, 0.3), []),
    ],
)
def test_what_crosses_a_threshold_is_named(found, limits, crossed):
    lines = alarms(thresholds(*limits), 7, dict(zip(("kl", "entropy"), found, strict=True)))
    assert [line.split()[3] for line in lines] == crossed
    for line, name in zip(lines, crossed, strict=True):
        value, limit = (pair[("kl", "entropy").index(name)] for pair in (found, limits))
        assert line.startswith("warning: step 7: ") and f"{name} = {value} nats" in line
        assert line.endswith(f"config.log.{name}_alarm = {limit}") and "\n" not in line


@pytest.mark.parametrize(
    ("found", "limit", "warns"), [(0.3, 0.5, True), (0.5, 0.5, False), (0.0, 0.0, False)]
)
def test_a_reader_that_fails_its_gate_is_said(found, limit, warns):
    measured = {"kl": 0.0, "entropy": 1.0, "reader_gate": found}
    lines = alarms(thresholds(), 7, measured, limit)
    start = f"warning: step 7: reader_gate = {found} is below config.counterfactual.min_gate = "
    assert [line.startswith(start) for line in lines] == [True] * warns
    del measured["reader_gate"]
    assert alarms(thresholds(), 7, measured, limit) == []


def test_a_step_warns_counts_and_goes_on(tmp_path, capsys):
    """In the terminal, in metrics.jsonl and in TensorBoard."""
    run = Run(
        state=None, update=None, log=RunLog(tmp_path, 9, True), watch=None, checkpoints=None,
        signals=types.SimpleNamespace(received=0), first=0, skipped=0, explain=None,
    )  # fmt: skip
    c = small(steps=9, checkpoint__every=0, log__kl_alarm=0.4, log__entropy_alarm=0.3)
    for step, (kl, entropy) in enumerate([(0.1, 1.0), (0.5, 0.2), (0.5, 1.0)], start=1):
        run.finish_step(c, step, {"kl": kl, "entropy": entropy}, None)
    failed = {"kl": 9.0, "entropy": 0.0, "reader_gate": 0.1}
    c = small(steps=9, checkpoint__every=0)
    run.finish_step(c, 4, {"kl": 9.0, "entropy": 0.0}, None)
    run.finish_step(c, 5, failed | {"reader_gate": 0.9}, None)
    run.finish_step(c, 6, failed, None)
    run.log.close()
    assert [row.get("alarms") for row in metrics(tmp_path)] == [0, 2, 1, None, 0, 1]
    events = [e.summary.value for e in records(next((tmp_path / "tensorboard").iterdir()))]
    counted = [v.simple_value for values in events for v in values if v.tag == "alarms"]
    assert counted == [0, 2, 1, 0, 1]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    named = [" ".join(line.split()[2:4]) for line in said]
    assert named == ["2: kl", "2: entropy", "3: kl", "6: reader_gate"]


def test_demonstrations_have_no_alarms(tmp_path):
    with pytest.raises(UserError, match="entropy_alarm = 0.5: demonstrations have neither"):
        sft.fine_tune(small(log__entropy_alarm=0.5), "sft", tmp_path / "run")
    with pytest.raises(UserError, match="memory_gib = 1.0: updates from demonstrations are not"):
        sft.fine_tune(small(optim__memory_gib=1.0), "sft", tmp_path / "run")


def test_an_alarm_of_what_is_not_measured_is_refused():
    with pytest.raises(UserError, match="kl_alarm = 0.5: nothing uses it while .*beta is 0"):
        small(log__kl_alarm=0.5, objective__beta=0.0)

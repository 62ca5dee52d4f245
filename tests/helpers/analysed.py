"""An analysis's directory as `analyse --data` leaves it, made by hand."""

import collections
import json
import types

from gccpo_jax.analysis.files import summarise
from gccpo_jax.analysis.report import Estimate, StepReport, TrajectoryReport
from gccpo_jax.counterfactual.shown import Arm


def step(text="Ana 3 + 4 = 7 pens\n", effect=(0.5, 0.2, 0.7), label="valid", **changes):
    fields = dict(
        text=text,
        tokens=7,
        phi_before=Estimate(0.25, 0.1, 0.5),
        phi=Estimate(0.75, 0.5, 0.9),
        D=effect and Estimate(*effect),
        R=Estimate(0.9, 0.8, 1.0),
        S=None,
        Q=0.36,
        scored_phi=0.7,
        other=0.1,
        deletion=0.4,
        counterfactual=None,
        agreement=None,
        but_for=None,
        logp=-0.5,
        entropy=0.25,
        law=(0.7, 0.2, 0.1),
        arms=(
            Arm("latent", "nuisance", None, True, (0.6, 0.3, 0.1)),
            Arm("corrupt", "content", "Ana 3 + 4 = 8 pens\n", False, None),
        ),
        label=label,
    )
    return StepReport(**{**fields, **changes})


def trajectory(name="0/0", effects=((0.5, 0.2, 0.7), (0.0, -0.4, 0.4)), label="valid", **changes):
    fields = dict(
        id=name,
        question="There are 3 pens . Then Ana puts in 4 pens . How many pens are there ?",
        gold="7",
        answer="7",
        outcome=1.0,
        candidates=["7", "9"],
        law_before=(0.3, 0.4, 0.3),
        steps=[step(effect=effect, label=label) for effect in effects],
    )
    return TrajectoryReport(**{**fields, **changes})


def rows():
    """One trajectory of each kind that the page can tell apart."""
    return [
        trajectory("0/0"),
        trajectory("0/1", ((-0.5, -0.75, -0.25),), label="wrong"),
        trajectory("1", ((0.25, -0.25, 0.5),), outcome=0.0, answer="9"),
        trajectory("2", (None,), label=None, gold=None, outcome=None, answer=None),
        trajectory("3", label=None, steps=[step(other=0.5, label=None)]),
    ]


def write_analysis(out, given, ended=True):
    """Files of an analysis with these trajectories."""
    out.mkdir(parents=True)
    lines = [row.to_json() | {"gate": 0.75} for row in given]
    (out / "trajectories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if ended:
        unlabelled = collections.defaultdict(lambda: types.SimpleNamespace(earliest_error=None))
        summary = summarise([json.loads(json.dumps(line)) for line in lines], unlabelled)
        (out / "summary.json").write_text(json.dumps(summary))
    return out

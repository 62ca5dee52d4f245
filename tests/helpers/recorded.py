"""A run's directory as training leaves it, made by hand."""

import gzip
import json

from gccpo_jax.training.rollout_record import VERSION, Arm, Branch, Step, Tokens, Trajectory

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>\"'&"


def step(text="Ana 3 + 4 = 7 pens\n", advantage=0.5, start=0, **changes):
    fields = dict(
        text=text,
        start=start,
        end=start + 2,
        labels=("valid",),
        value_before=0.25,
        draws_before=4,
        value_after=0.75,
        draws_after=2,
        effect=0.5,
        robustness=0.9,
        robustness_measured=True,
        gated=0.45,
        sensitivity=0.4,
        selectivity=0.36,
        rewritten_robustness=None,
        readable=True,
        score=0.45,
        advantage=advantage,
        law=(0.7, 0.2, 0.1),
        arms=(
            Arm("latent", "nuisance", None, True, (0.6, 0.3, 0.1)),
            Arm("corrupt", "content", "Ana 3 + 4 = 8 pens\n", False, None),
        ),
        branches=(Branch("#### 7", "7", 1.0), Branch("#### 9", "9", None)),
    )
    return Step(**{**fields, **changes})


def trajectory(n=0, advantages=(0.5, -0.25), **changes):
    steps = tuple(step(advantage=a, start=2 * k) for k, a in enumerate(advantages))
    size = 2 * len(advantages)
    fields = dict(
        version=VERSION,
        step=1,
        row=0,
        question_id=12,
        question="There are 3 pens . Then Ana puts in 4 pens . How many pens are there ?",
        gold="7",
        trajectory=n,
        text="Ana 3 + 4 = 7 pens\n#### 7",
        answer="7",
        outcome=1.0,
        reward=1.0,
        transported=None,
        equivariance=0.8,
        quadrant="sound_right",
        length=size,
        stopped=True,
        advantage=2 * sum(advantages),
        candidates=("7", "9"),
        law_before=None,
        steps=steps,
        tokens=Tokens(
            id=tuple(range(size)),
            text=tuple(f" w{t}" for t in range(size)),
            logp=(-0.5,) * size,
            entropy=(0.7,) * size,
            advantage=tuple(a for a in advantages for _ in range(2)),
        ),
    )
    return Trajectory(**{**fields, **changes})


def group(row=0, at=1, **changes):
    """One trajectory of each kind that the page can tell apart."""
    own = {"step": at, "row": row, **changes}
    wrong = {**own, "outcome": 0.0, "reward": 0.0}
    return [
        trajectory(0, **own),
        trajectory(1, quadrant="flawed_right", **own),
        trajectory(2, quadrant="sound_wrong", **wrong),
        trajectory(3, (-0.5,), quadrant="flawed_wrong", stopped=False, **wrong),
        trajectory(4, (0.0,), quadrant=None, **{**wrong, "outcome": None}),
    ]


def metric_rows(steps=12, lift=0.0):
    rows = [{"step": 0, "eval/id": 0.3 + lift}]
    for n in range(1, steps + 1):
        timed = {"sample_seconds": 0.5, "update_seconds": 0.25, "step_seconds": 1.0}
        curves = {"accuracy": 0.2 + lift + 0.03 * n, "eval/id": 0.3 + lift + 0.02 * n}
        loss = None if n == 2 else 0.1 / n
        rows.append({"step": n, **curves, **timed, "loss": loss, "alarms": float(n == 3)})
    return rows


def write_run(workdir, rows, metrics=None):
    """Files of a run with these trajectories."""
    (workdir / "rollouts").mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps({"steps": 12}))
    lines = [json.dumps(row) + "\n" for row in metrics or metric_rows()]
    (workdir / "metrics.jsonl").write_text("".join(lines))
    write_more(workdir, rows)
    return workdir


def write_more(workdir, rows):
    """More recorded steps."""
    for at in sorted({row.step for row in rows}):
        own = [json.dumps(row, default=vars) + "\n" for row in rows if row.step == at]
        file = workdir / f"rollouts/step_{at:06d}.jsonl.gz"
        file.write_bytes(gzip.compress("".join(own).encode()))

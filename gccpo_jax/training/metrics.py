"""Numbers for the log that say whether sampling, readers and credit can be trusted; alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.credit import Credit
from gccpo_jax.config import LogConfig
from gccpo_jax.counterfactual.gate import _mean, _variation
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.types import Spans


def sampling_metrics(sampled: Traces) -> dict[str, float | None]:
    """Accuracy, share of groups with contrast, entropy (nats per token), lengths (tokens).

    Accuracy is of the scorable responses, None without any; `unscorable` is the share of others.
    """
    outcome, scorable, rollout = sampled.outcome, sampled.scorable, sampled.rollout
    best = np.where(scorable, outcome, -np.inf).max(1)
    worst = np.where(scorable, outcome, np.inf).min(1)
    return {
        "accuracy": _mean(outcome, scorable) if scorable.any() else None,
        "unscorable": float(1 - scorable.mean()),
        "contrast": float((best > worst).mean()),
        "entropy": float(to_host(rollout.entropy).sum() / sampled.lengths.sum()),
        "length": float(sampled.lengths.mean()),
        "truncated": float(1 - to_host(rollout.stopped).mean()),
        "tokens": float(sampled.lengths.sum()),
    }


def checker_metrics(
    task: Task, items: Sequence[Item], texts: np.ndarray, outcome: np.ndarray
) -> dict[str, float]:
    """How responses [B, G] come to their answers, by the task's checker; {} without one.

    `direct`: share that states the answer and nothing before it; the others are reasoned.
    `accuracy_direct`, `accuracy_reasoned`: their mean outcomes, where there are any.
    `steps_sound`: share of the steps of reasoned responses without a flaw. Shares of all by
    soundness (no step flawed) and outcome, above 1/2 or not: `sound_right`, `sound_wrong`,
    `flawed_right`, `flawed_wrong`. Outcomes [B, G] that are NaN are left out.
    """
    if task.check is None:
        return {}
    kept = [(b, g) for b, g in np.ndindex(*texts.shape) if np.isfinite(outcome[b, g])]
    if not kept:
        return {}
    right = np.array([outcome[index] for index in kept])
    direct = np.array([is_direct(task, texts[index]) for index in kept])
    flaws = [flawed(task, step_labels(task, items[b], texts[b, g])) for b, g in kept]
    sound = np.array([not any(steps) for steps in flaws])
    found = {"direct": float(direct.mean())}
    for name, way in (("direct", direct), ("reasoned", ~direct)):
        if way.any():
            found[f"accuracy_{name}"] = float(right[way].mean())
    steps = [flaw for own, skip in zip(flaws, direct, strict=True) if not skip for flaw in own]
    if steps:
        found["steps_sound"] = float(1 - np.mean(steps))
    for soundness, has in (("sound", sound), ("flawed", ~sound)):
        found[f"{soundness}_right"] = float((has & (right > 0.5)).mean())
        found[f"{soundness}_wrong"] = float((has & (right <= 0.5)).mean())
    return found


def is_direct(task: Task, text: str) -> bool:
    """Whether a response states an answer and nothing before it.

    The answer's field has to begin with the task's cue or be all of the text.
    """
    return task.extract(text) is not None and not text[: task.field_start(text)].strip()


def step_labels(task: Task, item: Item, text: str) -> list[str] | None:
    """The checker's label of each step of a response that says anything; None without one."""
    if task.check is None:
        return None
    return task.check(item, [step for step in text.split(task.boundary) if step.strip()])


def flawed(task: Task, labels: Sequence[str]) -> list[bool]:
    """Whether each step is wrong, by its label."""
    return [label in task.flaws for label in labels]


def cue_reliance(accuracy: Mapping[str, float]) -> dict[str, float]:
    """Accuracy lost when a cue turns from right to wrong, for each cue that has both splits.

    >>> cue_reliance({"label_right": 0.75, "label_wrong": 0.5, "id": 0.7})
    {'label_reliance': 0.25}
    """
    cues = [name.removesuffix("_right") for name in accuracy if name.endswith("_right")]
    return {
        f"{cue}_reliance": accuracy[f"{cue}_right"] - accuracy[f"{cue}_wrong"]
        for cue in cues
        if f"{cue}_wrong" in accuracy
    }


def credit_metrics(credit: Credit, spans: Spans, reading: GroupReading) -> dict[str, float]:
    """Reward parts over steps that exist: R, D, gated effect, share of the first step.

    `law_variation` (`reward.law_variation`, mean over questions) near 0 says that the
    reader answers the same after every step: then R near 1 says nothing.
    """
    mask = to_host(spans.mask) & to_host(reading.scorable)[..., None]
    last = mask & (np.arange(mask.shape[-1]) == mask.sum(-1, keepdims=True) - 1)
    effect, gated = to_host(credit.effect), to_host(credit.gated)
    robust, defined = to_host(credit.robustness), to_host(credit.defined) & mask
    selective = to_host(credit.selective_defined) & mask
    size = np.abs(gated).sum()
    return {
        "R": _mean(robust, defined),
        "R_answer": _mean(robust, defined & last),
        "R_defined": _mean(defined, mask),
        "D": _mean(effect, mask),
        "D_abs": _mean(np.abs(effect), mask),
        "D_positive": _mean(effect > 0, mask),
        "D_answer": _mean(effect, last),
        "gated": _mean(gated, mask),
        "S": _mean(to_host(credit.sensitivity), to_host(credit.content_defined) & mask),
        "Q": _mean(to_host(credit.selectivity), selective),
        "Q_defined": _mean(selective, mask),
        "step_score": _mean(to_host(credit.step_score), mask),
        "law_variation": float(_variation(reading.factual, jnp.asarray(mask)).mean()),
        "credit_first": float(np.abs(gated[..., 0]).sum() / size) if size else 0.0,
        "advantage_abs": _mean(np.abs(to_host(credit.step_advantage)), mask),
    }


def alarms(
    log: LogConfig, step: int, metrics: Mapping[str, float], min_gate: float = 0.0
) -> list[str]:
    """A line for each threshold that the metrics of a step cross; 0 is no threshold.

    Thresholds are those of `log`, and `min_gate` of the scored reader: a step whose gate is
    under it uses no answer law.

    `kl` is the penalty's estimate of KL(policy || reference) at the step's last update,
    `entropy` the mean over its sampled tokens; both in nats per token. A number that is not
    finite crosses none: its update is skipped and reported, see `bad_updates.py`.
    """
    lines = []
    if log.kl_alarm and metrics["kl"] > log.kl_alarm:
        lines.append(
            f"warning: step {step}: kl = {metrics['kl']:.4g} nats per token is above "
            f"config.log.kl_alarm = {log.kl_alarm:g}"
        )
    if log.entropy_alarm and metrics["entropy"] < log.entropy_alarm:
        lines.append(
            f"warning: step {step}: entropy = {metrics['entropy']:.4g} nats per token is below "
            f"config.log.entropy_alarm = {log.entropy_alarm:g}"
        )
    if metrics.get("reader_gate", 1.0) < min_gate:
        lines.append(
            f"warning: step {step}: reader_gate = {metrics['reader_gate']:.4g} is below "
            f"config.counterfactual.min_gate = {min_gate:g}, so no answer law is used"
        )
    return lines

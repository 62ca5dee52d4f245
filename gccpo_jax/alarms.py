"""Alarms: a line where the policy is far from the reference, or hardly explores any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gccpo_jax.config import LogConfig


def alarms(log: LogConfig, step: int, metrics: Mapping[str, float]) -> list[str]:
    """A line for each threshold of `log` that the metrics of a step cross; 0 is no threshold.

    `kl` is the penalty's estimate of KL(policy || reference) at the step's last update,
    `entropy` the mean over its sampled tokens; both in nats a token. A number that is not
    finite crosses none: its update is skipped and reported, see `guard.py`.
    """
    lines = []
    if log.kl_alarm and metrics["kl"] > log.kl_alarm:
        lines.append(
            f"warning: step {step}: kl = {metrics['kl']:.4g} nats a token is above "
            f"config.log.kl_alarm = {log.kl_alarm:g}"
        )
    if log.entropy_alarm and metrics["entropy"] < log.entropy_alarm:
        lines.append(
            f"warning: step {step}: entropy = {metrics['entropy']:.4g} nats a token is below "
            f"config.log.entropy_alarm = {log.entropy_alarm:g}"
        )
    return lines

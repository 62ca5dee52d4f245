"""The objective that a config describes, as a loss of a policy."""

from __future__ import annotations

import dataclasses

from gccpo_jax.config import Config
from gccpo_jax.kit import behaviour_rule
from gccpo_jax.types import Policy
from gccpo_jax.update import LossFn, group_loss, rl_loss


def policy_loss_fn(config: Config, policy: Policy) -> LossFn:
    """The objective of the config on a policy."""
    rule = behaviour_rule(config)
    options = dataclasses.asdict(config.objective)
    scale = options.pop("gvpo_scale")
    if config.objective.loss == "gvpo":
        return group_loss(policy, rule=rule, scale=scale)
    return rl_loss(policy, rule=rule, max_tokens=config.sampling.max_tokens, **options)

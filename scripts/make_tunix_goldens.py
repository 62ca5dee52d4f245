"""Makes `tests/objective/losses_golden_tunix.json`: losses and gradients of Tunix, TRL's inputs.

Run it after `make_loss_goldens.py`, in an environment of its own (no test needs Tunix):

    pip install google-tunix==0.1.7
    python scripts/make_tunix_goldens.py

The code that runs is Tunix's registered policy loss, unchanged, with Tunix's own configs.
`common.compute_per_token_logps`, which would run a model, is replaced by one that returns the
log-probabilities given here. Rows are padded to the limit of tokens, as Tunix's learners pad
them: Dr.GRPO's constant is that width. Tunix casts to float32, so x64 would change nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tunix.rl import common, function_registry
from tunix.rl.agentic.agentic_grpo_learner import GRPOConfig
from tunix.rl.grpo.dapo_learner import DAPOConfig
from tunix.rl.grpo.drgrpo_learner import DrGRPOConfig

THERE = pathlib.Path(__file__).resolve().parents[1] / "tests" / "objective"
OUT = THERE / "losses_golden_tunix.json"
TRL = json.loads((THERE / "losses_golden.json").read_text())
LIMIT = TRL["max_tokens"]
INPUTS = {name: np.array(value) for name, value in TRL["inputs"].items()}
WIDTH = INPUTS["mask"].shape[1]
# What `grpo_loss_fn` reads of a config; the file records their values.
READ = (
    "loss_algo", "loss_agg_mode", "epsilon", "epsilon_high", "epsilon_c", "beta", "kl_loss_mode",
    "kl_clamp_value", "temperature",
)  # fmt: skip
# Tunix's default estimator of the penalty, "kl", is k1; the GRPO paper's k3 is "low_var_kl".
K3 = dict(beta=0.04, kl_loss_mode="low_var_kl")
GSPO = dict(loss_algo="gspo-token", beta=0.0, epsilon=0.05, epsilon_high=0.08)
CASES = {
    "grpo": (GRPOConfig, K3),
    "grpo_k1": (GRPOConfig, dict(beta=0.04)),
    "grpo_k2": (GRPOConfig, dict(beta=0.04, kl_loss_mode="mse_kl")),
    "dr_grpo": (DrGRPOConfig, dict(beta=0.0)),
    "dapo": (DAPOConfig, {}),
    "two_sided": (DAPOConfig, dict(epsilon_high=0.2, epsilon_c=1.3)),
    "token_sum": (GRPOConfig, dict(beta=0.0, loss_agg_mode="seq-mean-token-sum")),
    "gspo": (GRPOConfig, GSPO),
    "gspo_token": (GRPOConfig, GSPO),
    "sampler_weights": (GRPOConfig, K3),
    "empty_row": (GRPOConfig, K3),
    "empty_row_dr_grpo": (DrGRPOConfig, dict(beta=0.0)),
}
EMPTY = INPUTS["mask"] * np.array([1.0, 1.0, 0.0, 1.0])[:, None]
# Inputs of a case that are not TRL's; an advantage per token is what sets GSPO-token apart.
OTHER = {
    "gspo_token": dict(advantage=(INPUTS["advantage"][:, None] * INPUTS["weight"]).round(6)),
    "empty_row": dict(mask=EMPTY),
    "empty_row_dr_grpo": dict(mask=EMPTY),
}


def config_of(kind: type, options: dict) -> Any:
    """A config; options that are no field of it are set, as learners set the temperature."""
    fields = kind.__dataclass_fields__
    config = kind(**{key: value for key, value in options.items() if key in fields})
    vars(config).update({key: value for key, value in options.items() if key not in fields})
    config.temperature = 1.0
    return config


def padded(x: np.ndarray) -> jax.Array:
    """[4, 6] -> [4, LIMIT]; an advantage [4] stays."""
    return jnp.asarray(np.pad(x, ((0, 0), (0, LIMIT - WIDTH))) if x.ndim == 2 else x, jnp.float32)


def run(name: str) -> dict:
    """Options, loss and gradient by log-probability of a case."""
    config = config_of(*CASES[name])
    other = OTHER.get(name, {})
    x = {key: padded(value) for key, value in (INPUTS | other).items()}
    ids = jnp.zeros(x["mask"].shape, jnp.int32)
    example = common.TrainExample(
        prompt_ids=ids[:, :1],
        prompt_mask=ids[:, :1] == 0,
        completion_ids=ids,
        completion_mask=x["mask"] > 0,
        advantages=x["advantage"],
        ref_per_token_logps=x["reference"],
        old_per_token_logps=x["old"],
        sampler_is_weights=x["weight"] if name == "sampler_weights" else None,
    )
    loss_fn = function_registry.get_policy_loss_fn(config.policy_loss_fn)

    def value(logp: jax.Array) -> jax.Array:
        given = lambda *_, **__: (logp, jnp.zeros((*logp.shape, 2)))  # noqa: E731
        with mock.patch.object(common, "compute_per_token_logps", given):
            return loss_fn(nnx.Module(), example, config, pad_id=0, eos_id=1)[0]

    loss, by_logp = jax.value_and_grad(value)(x["logp"])
    assert not by_logp[:, WIDTH:].any()
    return dict(
        config=type(config).__name__,
        options={key: getattr(config, key) for key in READ if hasattr(config, key)},
        inputs={key: array.tolist() for key, array in other.items()},
        loss=rounded(loss),
        by_logp=rounded(by_logp[:, :WIDTH]),
    )


def rounded(x: jax.Array) -> list | float:
    return (np.asarray(x, np.float64).round(9) + 0.0).tolist()


def main() -> None:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("google-tunix", "jax")]
    content = dict(
        source=f"{', '.join(versions)}: tunix.rl.algo_core.grpo_loss_fn",
        max_tokens=LIMIT,
        cases={name: run(name) for name in CASES},
    )
    OUT.write_text(json.dumps(content, indent=None) + "\n")


if __name__ == "__main__":
    main()

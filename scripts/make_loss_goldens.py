"""Makes `tests/objective/losses_golden.json`: losses and gradients of TRL's trainer.

Run it in an environment of its own (the package and its tests never need PyTorch or TRL):

    pip install torch transformers trl
    python scripts/make_loss_goldens.py

The code that runs is `trl.GRPOTrainer._compute_loss`, unchanged. It is a method, so it
is called on a stand-in for `self`: a namespace with the options it reads, whose
`_get_per_token_logps_and_entropies` returns the log-probabilities given here in place of a
model's. Accelerator calls are those of one process; nothing is accumulated.
"""

from __future__ import annotations

import collections
import json
import pathlib
import types

import torch
import trl

OUT = pathlib.Path(__file__).resolve().parents[1] / "tests" / "objective" / "losses_golden.json"
LENGTHS = (6, 2, 4, 1)
WIDTH = 6
LIMIT = 8
CASES = {
    "grpo": dict(loss_type="grpo", beta=0.04),
    "grpo_correction": dict(loss_type="grpo", beta=0.04, use_bias_correction_kl=True),
    "dr_grpo": dict(loss_type="dr_grpo"),
    "dapo": dict(loss_type="dapo", epsilon_high=0.28),
    "two_sided": dict(loss_type="dapo", delta=1.3),
    "gspo": dict(
        loss_type="grpo", importance_sampling_level="sequence", epsilon_low=0.05, epsilon_high=0.08
    ),
    "cispo": dict(loss_type="cispo", epsilon_high=1.28),
    "entropy_bonus": dict(loss_type="dapo", entropy_coef=0.1),
    "sampler_weights": dict(loss_type="grpo", beta=0.04, use_vllm=True),
}


def inputs() -> dict[str, torch.Tensor]:
    """Arrays [4, 6], an advantage [4], ragged on the right; rounded so that the file is exact."""
    g = torch.Generator().manual_seed(0)
    normal = lambda: torch.randn((4, WIDTH), generator=g, dtype=torch.float64)  # noqa: E731
    logp = -(0.2 + 2 * torch.rand((4, WIDTH), generator=g, dtype=torch.float64))
    arrays = dict(
        logp=logp,
        old=logp + 0.4 * normal(),
        reference=logp + 0.3 * normal(),
        entropy=normal().abs(),
        weight=normal().exp().clamp(max=2.0),
        advantage=torch.tensor([1.5, -0.5, -0.75, 0.25], dtype=torch.float64),
        mask=(torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]).double(),
    )
    return {name: (x * 1e4).round() / 1e4 for name, x in arrays.items()}


def stand_in(logp: torch.Tensor, entropy: torch.Tensor, case: dict) -> types.SimpleNamespace:
    """What `_compute_loss` reads of a trainer."""
    options = dict(
        beta=0.0, epsilon_low=0.2, epsilon_high=0.2, importance_sampling_level="token",
        use_vllm=False, entropy_coef=0.0,
    ) | case  # fmt: skip
    return types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logp, entropy, None),
        _entropy_bonus_enabled=options["entropy_coef"] != 0,
        _metrics={"train": collections.defaultdict(list)},
        accelerator=types.SimpleNamespace(
            num_processes=1, sync_gradients=True, gather=lambda x: x, reduce=lambda x, **_: x
        ),
        args=types.SimpleNamespace(
            delta=options.pop("delta", None),
            use_bias_correction_kl=options.pop("use_bias_correction_kl", False),
            steps_per_generation=1,
        ),
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=LIMIT,
        model=types.SimpleNamespace(training=True),
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_adaptive_entropy=False,
        vllm_importance_sampling_correction=True,
        **options,
    )


def run(case: dict) -> dict:
    """Loss and its gradients by log-probability and by entropy."""
    x = inputs()
    logp, entropy = x["logp"].requires_grad_(), x["entropy"].requires_grad_()
    ids = torch.zeros(x["mask"].shape, dtype=torch.long)
    batch = dict(
        prompt_ids=ids[:, :1],
        prompt_mask=ids[:, :1] + 1,
        completion_ids=ids,
        completion_mask=x["mask"],
        advantages=x["advantage"],
        old_per_token_logps=x["old"],
        ref_per_token_logps=x["reference"],
        importance_sampling_ratio=x["weight"],
        num_items_in_batch=x["mask"].sum(),
    )
    loss = trl.GRPOTrainer._compute_loss(stand_in(logp, entropy, case), None, batch)
    by_logp, by_entropy = torch.autograd.grad(
        loss, (logp, entropy), allow_unused=True, materialize_grads=True
    )
    found = dict(loss=loss.detach(), by_logp=by_logp, by_entropy=by_entropy)
    return {name: rounded(value) for name, value in found.items()}


def rounded(x: torch.Tensor) -> list | float:
    return ((x * 1e9).round() / 1e9 + 0.0).tolist()


def main() -> None:
    content = dict(
        source=f"trl {trl.__version__} GRPOTrainer._compute_loss",
        max_tokens=LIMIT,
        inputs={name: value.tolist() for name, value in inputs().items()},
        cases={name: dict(options=case, **run(case)) for name, case in CASES.items()},
    )
    OUT.write_text(json.dumps(content, indent=None) + "\n")


if __name__ == "__main__":
    main()

"""The named configurations: arms of the controlled study, baselines, variants of the method.

A row says which fields make it what it is; `presets.apply` sets them on a base, which is A7.
`gccpo` is the form that the study confirmed (docs/results/study.md).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

from gccpo_jax.config import Config, freeze
from gccpo_jax.config.fields import build
from gccpo_jax.config.unread import Unread, unread
from gccpo_jax.errors import UserError
from gccpo_jax.training.planning.tokens import at_the_limits

Changes = dict[str, Any]
"""{dotted field: value}"""


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row of the table."""

    name: str
    what: str
    formula: str  # of what trains, in the symbols of docs/method.md
    source: str
    changes: Callable[[Any], Changes]  # of the base `ConfigDict`
    also: str = ""  # another name


def fixed(**changes: Any) -> Callable[[Any], Changes]:
    """The same changes whatever the base; `a__b` is the field a.b."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return lambda base: dotted


def grpo(**more: Any) -> Changes:
    """GRPO's credit: the z-score of the outcome."""
    return {"credit.kind": "outcome", "credit.baseline": "zscore", **more}


def _more_rollouts(base: Any) -> Changes:
    """As many rollouts as A7's tokens pay for: G' = G (1 + its extra tokens a rollout's)."""
    extra = at_the_limits(freeze(base), None).total.multiple
    return grpo(group_size=round(base.group_size * (1 + extra)))


def _latents(base: Any) -> Changes:
    """Nuisance arms that are latent and no others."""
    return {
        "counterfactual.surface_arms": 0,
        "counterfactual.equivalent_arms": 0,
        "counterfactual.latent_arms": max(base.counterfactual.latent_arms, 1),
    }


def _latent_only(base: Any) -> Changes:
    arms = base.counterfactual
    if arms.surface_arms + arms.equivalent_arms == 0:
        raise UserError(
            "preset 'A7c': the base has no surface_arms and no equivalent_arms, so it is A7 itself"
        )
    return _latents(base)


def _paper(base: Any) -> Changes:
    """Latent perturbations alone; no Phi, so no branches."""
    return _latents(base) | SCORED | {"credit.kind": "paper"}


def _without_arms(**more: Any) -> Changes:
    """Step credit that reads values only, at once instead of by branches."""
    names = ("latent_arms", "surface_arms", "equivalent_arms")
    return {f"counterfactual.{name}": 0 for name in names} | SCORED | more


def _effects(**more: Any) -> Changes:
    """Step credit by values alone: no gate, no laws; a step's own effect counts most.

    A sum of later effects with lam near 1 is the outcome again; with Phi of N draws, a step's
    return is best weighed by about 1 / (N + 1) of what comes after it.
    None in `more`: the base's.
    """
    found = {
        **{f"counterfactual.{name}_arms": 0 for name in ("latent", "surface", "equivalent")},
        "credit.gate": False,
        "credit.lam": 0.3,
        "credit.tokens_per_unit": 0.0,
        "counterfactual.boundaries": 4,
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def effects(**more: Any) -> Callable[[Any], Changes]:
    """`_effects` whatever the base; `a__b` is the field a.b."""
    return lambda base: _effects(**{name.replace("__", "."): x for name, x in more.items()})


def _branches_train(base: Any) -> Changes:
    """A branch is compared with the others from its boundary, so there are two at least."""
    draws = max(base.counterfactual.draws, 2)
    return _effects(**{"optim.train_branches": True, "counterfactual.draws": draws})


def _randomised(base: Any) -> Changes:
    """A group over as many wordings as leave two trajectories to each."""
    return {"sampling.surface_groups": max(base.group_size // 2, 1)}


def _dapo(base: Any) -> Changes:
    changes = {
        "objective.reduction": "token_mean",
        "objective.clip_low": 0.2,
        "objective.clip_high": 0.28,
        "objective.beta": 0.0,
        "sampling.dynamic": 10,
        "reward.overlong": max(base.sampling.max_tokens // 5, 1),
    }
    return grpo(**changes)


def _prof(base: Any) -> Changes:
    keep = base.group_size // 2
    changes = {"reward.process": ARITHMETIC, "reward.process_use": "curate", "reward.keep": keep}
    return grpo(**changes)


SCORED = {
    "counterfactual.value": "scored",
    "counterfactual.branch_tokens": 0,
    "counterfactual.shared_noise": True,
}
ARITHMETIC = "gccpo_jax.tasks.arithmetic:score"
SEQUENCE_MEAN = {"objective.reduction": "seq_mean_token_mean"}
GSPO_CLIP = {"objective.clip_low": 3e-4, "objective.clip_high": 4e-4}
METHOD, PAPER = "docs/method.md", "arXiv 2602.06475"

PRESETS = (
    Preset("A0", "GRPO", "A = (o - mean o) / std o", "arXiv 2402.03300", lambda base: grpo()),
    Preset(
        "A1", "GRPO, more rollouts", "A0 with G' = G (1 + what A7 spends a rollout)",
        "arXiv 2402.03300", _more_rollouts,
    ),
    Preset(
        "A2", "non-causal", "d~_k = (1 - V_k) H_k: variance and entropy of sibling laws",
        METHOD, lambda base: _without_arms(**{"credit.step_term": "non_causal"}),
    ),
    Preset(
        "A3", "observational", "d~_k of Phi and R estimated from siblings; no do",
        METHOD, fixed(credit__step_term="observational"),
    ),
    Preset("A4", "R only", "d~_k = R_k", METHOD, fixed(credit__step_term="robustness")),
    Preset(
        "A5", "E only, unsigned", "d~_k = |D_k|", METHOD, fixed(credit__step_term="effect_size"),
    ),
    Preset(
        "A6", "R S, unsigned", "d~_k = R_k S_k", METHOD,
        fixed(credit__step_term="selectivity", counterfactual__corrupt_arms=2),
    ),
    Preset("A7", "gated step effects", "d~_k = R_k max(D_k, 0) + min(D_k, 0)", PAPER, fixed()),
    Preset(
        "A7b", "answer step not gated", "A7 with R_K = 1", METHOD,
        fixed(credit__gate_answer=False),
    ),
    Preset("A7c", "gate from latent only", "A7, R over latent arms", METHOD, _latent_only),
    Preset(
        "A7d", "gate R Eq", "A7 with R_k Eq for R_k", METHOD,
        fixed(credit__gate_by="equivariance", counterfactual__equivariance_arms=2),
    ),
    Preset(
        "A8", "no gate", "d~_k = D_k (as VinePPO), lam .3 per step", "arXiv 2410.01679", effects(),
    ),
    Preset(
        "A9", "permuted", "A7, d~_k in another order in each trajectory", METHOD,
        fixed(credit__control="permuted"),
    ),
    Preset(
        "A10", "inverted", "A7, A'_k = 2 mean A - A_k", METHOD, fixed(credit__control="inverted"),
    ),
    Preset(
        "A11", "independent noise", "A7, other tapes at every boundary", METHOD,
        fixed(counterfactual__shared_noise=False),
    ),
    Preset(
        "A12", "frozen reader", "A7, laws read by the reference", METHOD,
        fixed(counterfactual__reader="reference"),
    ),
    Preset(
        "A13", "the paper, reconstructed", "A_t = A r_t / rt of o / K + alpha (rob_k + w eff_k)",
        PAPER, _paper, "gccpo_paper",
    ),
    Preset(
        "A14", "values and outcome in other words", "D^do_k, r = o o^do", METHOD,
        effects(counterfactual__transport="surface"),
    ),
    Preset(
        "A14b", "half of the outcome as asked", "A14, r = o (1 + o^do) / 2", METHOD,
        effects(counterfactual__transport="surface", credit__kappa=0.5),
    ),
    Preset(
        "A14c", "with the gate", "A14, R_k max(D^do_k, 0) + min(D^do_k, 0)", METHOD,
        effects(
            counterfactual__transport="surface", credit__gate=None,
            counterfactual__latent_arms=None, counterfactual__surface_arms=None,
            counterfactual__equivalent_arms=None,
        ),
    ),
    Preset(
        "A14d", "the outcome in other words alone", "A = (r - mean r) / std r, r = o o^do", METHOD,
        lambda base: grpo(**{
            "counterfactual.transport": "surface", "counterfactual.boundaries": 0,
        }),
    ),
    Preset(
        "A14e", "do-update", "A14 over other words and numbers, trained in them", METHOD,
        effects(counterfactual__transport="both", optim__do_share=1.0),
    ),
    Preset(
        "A14f", "gated by the step's robustness", "A14, rho_k max(D^do_k, 0) + min(D^do_k, 0)",
        METHOD,
        effects(counterfactual__transport="surface", credit__gate=True, credit__gate_by="step"),
    ),
    Preset(
        "A14n", "values and outcome under other numbers", "A14 with number rewrites", METHOD,
        effects(counterfactual__transport="number"),
    ),
    Preset(
        "A15", "randomised surface", "A0, the group over several wordings", METHOD,
        lambda base: grpo(**_randomised(base)), also="gccpo",
    ),
    Preset(
        "A15s", "randomised surface, step credit", "A8, the group over several wordings", METHOD,
        lambda base: _effects(**_randomised(base)),
    ),
    Preset(
        "pav", "progress under a better prover", "D_k + B(Phi_k) - B(Phi_{k-1}), best of 4",
        "arXiv 2410.08146", effects(credit__step_term="prover", credit__gate=None),
    ),
    Preset(
        "spo_mask", "segments, unsure tokens only", "A8 on tokens with pi < .9",
        "arXiv 2505.23564", effects(credit__token_weights="unsure"),
    ),
    Preset(
        "branch_train", "trees", "A8, and branches train: A = O_n - mean of its boundary's others",
        "arXiv 2505.23564", _branches_train,
    ),
    Preset(
        "gccpo_selective", "no gold in the step score", "A_k = A_out w_k, w_k ~ floor + Q_k",
        METHOD, fixed(credit__kind="selective", counterfactual__corrupt_arms=2),
    ),
    Preset(
        "additive", "two streams", "A = A_out + weight C_k", METHOD, fixed(credit__kind="additive"),
    ),
    Preset(
        "four_corner", "right, and for a reason", "r = o (a + (1 - a) q) + (1 - o) b q", METHOD,
        fixed(credit__kind="four_corner", counterfactual__corrupt_arms=2),
    ),
    Preset(
        "grpo", "GRPO with its own reduction", "z-score; mean over responses of token means",
        "arXiv 2402.03300", lambda base: grpo(**SEQUENCE_MEAN),
    ),
    Preset(
        "process", "GRPO with process supervision", "A += sum_{j >= k} z_j of a rule's step scores",
        "arXiv 2402.03300, 4.1.3",
        lambda base: grpo(**SEQUENCE_MEAN, **{"reward.process": ARITHMETIC}),
    ),
    Preset(
        "dr_grpo", "Dr.GRPO", "o - mean o; token sums over a constant length", "arXiv 2503.20783",
        lambda base: grpo(**{
            "credit.baseline": "mean", "objective.reduction": "seq_mean_token_sum_norm",
        }),
    ),
    Preset(
        "rloo", "RLOO", "o - mean of the others; token sums", "arXiv 2402.14740",
        lambda base: grpo(**{
            "credit.baseline": "leave_one_out", "objective.reduction": "seq_mean_token_sum",
        }),
    ),
    Preset(
        "dapo", "DAPO", "z-score; clip-higher, token mean, dynamic sampling, overlong punishment",
        "arXiv 2503.14476", _dapo,
    ),
    Preset(
        "gspo", "GSPO", "one ratio per response, its geometric mean", "arXiv 2507.18071",
        lambda base: grpo(**SEQUENCE_MEAN, **GSPO_CLIP, **{"objective.loss": "gspo"}),
    ),
    Preset(
        "gspo_token", "GSPO-token under the method's credit", "the same ratio, A of tokens",
        "arXiv 2507.18071",
        lambda base: {**SEQUENCE_MEAN, **GSPO_CLIP, "objective.loss": "gspo_token"},
    ),
    Preset(
        "cispo", "CISPO", "sg(min(w, cap)) A log p; token mean", "arXiv 2506.13585",
        lambda base: grpo(**{"objective.loss": "cispo", "objective.reduction": "token_mean"}),
    ),
    Preset(
        "gvpo", "GVPO", "sum ((a_i - mean a) - (o_i - mean o))^2 / 2(k - 1)", "arXiv 2504.19599",
        lambda base: {"credit.kind": "outcome", "credit.baseline": "leave_one_out",
                      "objective.loss": "gvpo", "objective.beta": 0.0},
    ),
    Preset(
        "gtpo", "GTPO", "token rewards by relative entropy", "arXiv 2508.04349",
        fixed(credit__kind="gtpo", objective__reduction="token_mean", objective__clip_high=0.28),
    ),
    Preset(
        "grpo_s", "GRPO-S", "response rewards by relative entropy, geometric ratio",
        "arXiv 2508.04349",
        lambda base: {**SEQUENCE_MEAN, "credit.kind": "grpo_s", "objective.loss": "gspo",
                      "objective.clip_high": 0.28},
    ),
    Preset(
        "pass_at_k", "Pass@k training", "of the best of k, over all subsets", "arXiv 2508.10751",
        lambda base: grpo(**{
            "credit.baseline": "pass_at_k", "credit.pass_k": min(4, base.group_size),
        }),
    ),
    Preset(
        "maxrl", "MaxRL", "A = (o - mean o) / mean o", "arXiv 2602.02710",
        lambda base: grpo(**{"credit.baseline": "maxrl"}),
    ),
    Preset(
        "length_penalty", "length-penalised reward", "o (1 - alpha sigmoid(z of length)); RLOO",
        "arXiv 2502.04463",
        lambda base: grpo(**{"credit.baseline": "leave_one_out", "reward.length_penalty": 0.1}),
    ),
    Preset(
        "mrt", "MRT", "A_out + alpha (J_k - J_{k-1}), J read at once", "arXiv 2503.07572",
        lambda base: _without_arms(**{
            "credit.kind": "additive", "credit.gate": False, "credit.additive_weight": 1.0,
            "counterfactual.reader": "reference",
        }),
    ),
    Preset(
        "mrt_terminate", "MRT against answering at once", "A = o - J(c) after a prefix c",
        "arXiv 2503.07572",
        lambda base: _without_arms(**{
            "credit.kind": "terminate", "counterfactual.boundaries": 1,
        }),
    ),
    Preset(
        "l2t", "L2T", "A_t = A r_t / rt, R_k = o / K + alpha (D_k - beta (g_k . dtheta)^2)",
        "arXiv 2505.10425",
        lambda base: _without_arms(**{
            "credit.kind": "l2t", "credit.paper_alpha": 0.8, "credit.compression": 0.6,
            "counterfactual.reader": "reference",
        }),
    ),
    Preset(
        "l2t_as_released", "L2T, its code", "z-score of o + sum_{k > 1} n_k (r_k - r_{k-1})",
        "ML-TASA/L2T f9bce04",
        lambda base: grpo(**SEQUENCE_MEAN, **{
            "reward.process": ARITHMETIC, "reward.process_use": "gain",
        }),
    ),
    Preset(
        "treerl", "TreeRL", "d_k = (Phi_k - Phi_{k-1}) + (Phi_k - Phi_0)", "THUDM/TreeRL",
        effects(credit__step_term="root", credit__gate=None, credit__lam=0.0),
    ),
    Preset(
        "pure_min", "PURE", "A += z of the least score from step k on, softly",
        "arXiv 2504.15275",
        lambda base: grpo(**SEQUENCE_MEAN, **{
            "reward.process": ARITHMETIC, "reward.process_return": "min",
        }),
    ),
    Preset(
        "sdpo", "SDPO", "A_t = log pi(x_t | a right sibling) - log pi(x_t)", "arXiv 2601.20802",
        lambda base: {"credit.kind": "sdpo", **SEQUENCE_MEAN},
    ),
    Preset(
        "gcpo", "GCPO", "A z-score times alpha cos(z_i, Zbar_i - Zbar'_i + zbar); - kappa k3(pi')",
        "arXiv 2508.05428", lambda base: {"credit.kind": "gcpo", **SEQUENCE_MEAN},
    ),
    Preset(
        "cosine_length", "cosine length reward", "right 2 to 1, wrong -10 to 0 along a cosine of "
        "length; -.05 on repeated tokens; RLOO", "arXiv 2502.03373",
        lambda base: grpo(**{
            "credit.baseline": "leave_one_out", "reward.cosine": True, "reward.repetition": 0.05,
            "reward.repetition_ngram": min(40, max(base.sampling.max_tokens // 4, 1)),
        }),
    ),
    Preset(
        "rlsp", "RLSP", "r = .8 o + .2 L / L_max", "arXiv 2502.06773",
        lambda base: grpo(**{"reward.exploration": 0.2}),
    ),
    Preset(
        "prof", "PROF", "GRPO on the half whose step scores fit the outcome", "arXiv 2509.03403",
        _prof,
    ),
)  # fmt: skip


def find(name: str) -> Preset:
    """The preset of a name.

    Raises:
      UserError: there is none; names those there are.
    """
    for preset in PRESETS:
        if name in (preset.name, preset.also):
            return preset
    raise UserError(f"there is no preset {name!r}; there are {', '.join(p.name for p in PRESETS)}")


def apply(base: Any, name: str) -> Any:
    """The base `ConfigDict` with what the preset changes, in place; returns it.

    What the base reads and the preset does not goes back to its default.

    Raises:
      UserError: there is no such preset, or it would be the base itself.
    """
    changes, idle = find(name).changes(base), {each.path for each in _unread(base)}
    for path, value in changes.items():
        _set(base, path, value)
    while left := [x for x in _unread(base) if x.path not in idle and x.path not in changes]:
        for path, _, start, _ in left:
            _set(base, path, start)
    return base


def _unread(config: Any) -> list[Unread]:
    return list(unread(build(Config, config.to_dict(), "config")))


def _set(config: Any, path: str, value: Any) -> None:
    section, _, name = path.rpartition(".")
    (operator.attrgetter(section)(config) if section else config)[name] = value

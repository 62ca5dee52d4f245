"""A field that nothing reads under the other fields' values is refused, over the whole config.

Every field has a row here or a reason in `ALWAYS`; the rows are a person's, not the config's.
"""

import dataclasses
import operator

import pytest

from gccpo_jax.config import Config, default, freeze
from gccpo_jax.config.unread import NEEDS
from gccpo_jax.errors import UserError

ALWAYS = {
    "": "seed steps batch_size group_size",
    "policy": "init dtype compute remat attention",
    "task": "name options paraphraser",  # the task refuses options that it does not have
    # Paths, template and date are refused by the task and the template that do not read them.
    "data": "path eval_path max_prompt_tokens shuffle template date",
    "sampling": "temperature top_k top_p max_tokens slots surface_groups dynamic",
    "credit": "kind",
    "reward": "verifier",
    "objective": "loss beta",  # "gvpo" refuses a penalty
    "optim": "lr warmup decay b1 b2 eps weight_decay clip_norm epochs micro_batch memory_gib "
    "train_branches "  # what it needs is refused in words of its own
    "max_skipped",
    "eval": "every questions ood_questions draws batch max_prompt_tokens max_tokens",
    "checkpoint": "every keep",
    "mesh": "data fsdp tensor",
    "log": "rollouts_every tensorboard wandb mlflow trackio profile entropy_alarm note",
}


def k(kind, **more):
    """Changes to a kind of credit with what it needs; `a__b` is the field a.b."""
    needs = {
        "selective": {"counterfactual.corrupt_arms": 1},
        "four_corner": {"counterfactual.corrupt_arms": 1},
        "paper": {"counterfactual.surface_arms": 0},
    }
    return {"credit.kind": kind, **needs.get(kind, {}), **on(**more)}


def on(**changes):
    return {name.replace("__", "."): value for name, value in changes.items()}


STEPS, OUTCOME, GTPO, GRPO_S = {}, k("outcome"), k("gtpo"), k("grpo_s")
ADDITIVE, SELECTIVE, CORNER = k("additive"), k("selective"), k("four_corner")
PAPER, L2T, SDPO, GCPO = k("paper"), k("l2t"), k("sdpo"), k("gcpo")
ARMLESS = on(credit__gate=False, counterfactual__latent_arms=0, counterfactual__surface_arms=0)
SCORED = on(counterfactual__value="scored")
LEARNED = on(counterfactual__value="learned", counterfactual__scorer="prm")
MOVED = on(counterfactual__transport="surface")
MOVED_OUTCOME = OUTCOME | MOVED | on(counterfactual__boundaries=0)
JUDGED = on(reward__process="module:function")
VERIFIED = on(reward__verifier="module:function")
POOLED = on(credit__pooled=True, credit__gate=False)
GVPO = OUTCOME | on(objective__loss="gvpo", objective__beta=0.0)
GSPO = OUTCOME | on(objective__loss="gspo", objective__reduction="seq_mean_token_mean")
CISPO = on(objective__loss="cispo")
FREE = on(objective__beta=0.0)
ZSCORE, PASS_AT_K = on(credit__baseline="zscore"), on(credit__baseline="pass_at_k")
EMA = on(counterfactual__reader="ema")
SCRATCH = on(policy__init="scratch")
LORA = on(policy__lora__rank=4)
TERM = {t: on(credit__step_term=t) for t in ("observational", "non_causal", "prover")}
GAIN = OUTCOME | JUDGED | on(reward__process_use="gain")
CURATED = OUTCOME | JUDGED | on(reward__process_use="curate", reward__keep=4)

# field: a value, where it is read, where it is not
ROWS = {
    "policy.path": ("two_ways", [STEPS], [SCRATCH]),
    "policy.lora.rank": (4, [STEPS], [SCRATCH]),
    "policy.lora.alpha": (8.0, [LORA], [STEPS]),
    "policy.lora.targets": ("q v", [LORA], [STEPS]),
    **{
        f"policy.scratch.{name}": (8, [SCRATCH], [STEPS])
        for name in ("layers", "width", "heads", "kv_heads", "mlp")
    },
    **{
        f"segmentation.{name}": (5, [STEPS, OUTCOME | JUDGED, MOVED_OUTCOME], [OUTCOME, GTPO])
        for name in ("max_steps", "min_tokens", "max_tokens")
    },
    "counterfactual.boundaries": (3, [STEPS, PAPER], [OUTCOME, GTPO, OUTCOME | JUDGED]),
    "counterfactual.boundary_share": (0.5, [STEPS, L2T], [OUTCOME, MOVED_OUTCOME]),
    "counterfactual.draws": (
        *(16, [STEPS, MOVED_OUTCOME, SCORED | on(credit__shrink=1.0), SCORED | POOLED]),
        [OUTCOME, GRPO_S, SCORED, OUTCOME | JUDGED],
    ),
    "counterfactual.branch_tokens": (9, [STEPS, MOVED_OUTCOME], [OUTCOME, SCORED]),
    "counterfactual.latent_arms": (3, [STEPS, ADDITIVE], [OUTCOME, MOVED_OUTCOME]),
    "counterfactual.latent_sigma": (
        *(0.5, [STEPS]),
        [OUTCOME, on(counterfactual__latent_arms=0), MOVED_OUTCOME],
    ),
    "counterfactual.surface_arms": (2, [STEPS], [OUTCOME, GTPO]),
    "counterfactual.equivalent_arms": (2, [STEPS], [OUTCOME, GRPO_S]),
    "counterfactual.corrupt_arms": (2, [STEPS], [OUTCOME, MOVED_OUTCOME]),
    "counterfactual.swap_arms": (2, [STEPS], [OUTCOME]),
    "counterfactual.swap_delta": (2.0, [on(counterfactual__swap_arms=1)], [STEPS, OUTCOME]),
    "counterfactual.equivariance_arms": (2, [STEPS], [OUTCOME]),
    "counterfactual.shared_noise": (False, [STEPS], [OUTCOME, SCORED, MOVED, MOVED_OUTCOME]),
    "counterfactual.from_departure": (
        *(True, [STEPS, LEARNED]),
        [OUTCOME, SCORED, MOVED, MOVED_OUTCOME, on(counterfactual__shared_noise=False)],
    ),
    "counterfactual.known_rest": (
        *(True, [STEPS, LEARNED]),
        [OUTCOME, SCORED, MOVED, MOVED_OUTCOME],
    ),
    "counterfactual.scorer": ("other", [LEARNED], [STEPS, SCORED, OUTCOME]),
    "counterfactual.learned_share": (0.5, [LEARNED], [STEPS, SCORED, OUTCOME]),
    "counterfactual.value": ("scored", [STEPS], [OUTCOME]),
    "counterfactual.transport": ("both", [STEPS], [GTPO, L2T, ADDITIVE, CORNER]),
    "counterfactual.transport_arms": (3, [MOVED, MOVED_OUTCOME], [STEPS, OUTCOME]),
    "counterfactual.reader": (
        *("reference", [STEPS, ARMLESS | SCORED, ARMLESS | TERM["observational"]]),
        [OUTCOME, ARMLESS, MOVED_OUTCOME],
    ),
    "counterfactual.ema": (0.5, [EMA], [STEPS, on(counterfactual__reader="reference"), OUTCOME]),
    "counterfactual.max_candidates": (4, [STEPS, PAPER], [OUTCOME, ARMLESS]),
    "counterfactual.max_answer_tokens": (4, [STEPS], [OUTCOME, ARMLESS, MOVED_OUTCOME]),
    "counterfactual.max_other": (0.5, [STEPS, ARMLESS | SCORED], [OUTCOME, ARMLESS]),
    "counterfactual.min_gate": (0.1, [STEPS], [OUTCOME, ARMLESS]),
    "credit.step_term": ("non_causal", [STEPS], [ADDITIVE, OUTCOME, POOLED]),
    "credit.gate_by": (
        *("equivariance", [k("gated_gae", counterfactual__equivariance_arms=1)]),
        [OUTCOME, SELECTIVE, on(credit__gate=False), *TERM.values()],
    ),
    "credit.control": ("inverted", [STEPS, POOLED], [ADDITIVE, OUTCOME]),
    "credit.gate": (False, [STEPS, ADDITIVE], [OUTCOME, L2T, TERM["prover"], TERM["non_causal"]]),
    "credit.gate_answer": (
        *(False, [STEPS, TERM["observational"]]),
        [OUTCOME, on(credit__gate=False), TERM["prover"]],
    ),
    "credit.lam": (0.3, [STEPS], [ADDITIVE, OUTCOME, POOLED]),
    "credit.tokens_per_unit": (0.0, [STEPS], [PAPER, OUTCOME, POOLED]),
    "credit.pooled": (True, [on(credit__gate=False)], [ADDITIVE, OUTCOME]),
    "credit.shrink": (1.0, [STEPS, POOLED], [ADDITIVE, OUTCOME]),
    "credit.kappa": (0.5, [MOVED, MOVED_OUTCOME], [STEPS, OUTCOME, L2T]),
    "credit.token_weights": ("unsure", [STEPS, ADDITIVE, SELECTIVE], [OUTCOME, PAPER, CORNER]),
    "credit.baseline": ("zscore", [OUTCOME, ADDITIVE], [STEPS, CORNER, GTPO, GVPO]),
    "credit.ddof": (
        *(0, [OUTCOME | ZSCORE, PAPER, L2T, GTPO, GRPO_S, GCPO]),
        [STEPS, OUTCOME, ADDITIVE, OUTCOME | PASS_AT_K, CORNER, GVPO],
    ),
    "credit.epsilon": (
        *(0.5, [OUTCOME | ZSCORE, OUTCOME | PASS_AT_K, SELECTIVE | ZSCORE, L2T]),
        [STEPS, OUTCOME, OUTCOME | on(credit__baseline="mean"), GVPO],
    ),
    "credit.pass_k": (2, [OUTCOME | PASS_AT_K], [OUTCOME, STEPS, OUTCOME | ZSCORE, GVPO]),
    **{
        f"credit.{name}": (0.125, [GTPO, GRPO_S], [STEPS, OUTCOME])
        for name in ("entropy_base", "entropy_bonus", "entropy_floor")
    },
    "credit.additive_weight": (0.125, [ADDITIVE], [STEPS, OUTCOME]),
    "credit.selective_floor": (0.125, [SELECTIVE], [STEPS, OUTCOME]),
    "credit.corner_a": (0.125, [CORNER], [STEPS, OUTCOME]),
    "credit.corner_b": (0.125, [CORNER], [STEPS, SELECTIVE]),
    "credit.paper_weight": (0.125, [PAPER], [STEPS, L2T]),
    "credit.causal_budget": (3, [GCPO], [STEPS, OUTCOME, SDPO]),
    "credit.causal_scale": (3.0, [GCPO], [STEPS, OUTCOME]),
    "objective.anchor": (0.5, [GCPO], [STEPS, OUTCOME, SDPO]),
    "credit.compression": (0.125, [L2T], [PAPER, OUTCOME, SDPO]),
    **{
        f"credit.paper_{name}": (0.125, [PAPER, L2T], [STEPS, OUTCOME])
        for name in ("alpha", "truncation", "floor", "clip")
    },
    **{
        f"reward.{name}": (x, [OUTCOME, GVPO], [STEPS, GTPO, OUTCOME | PASS_AT_K])
        for name, x in (
            *(("overlong", 8), ("length_penalty", 0.5), ("cosine", True)),
            *(("exploration", 0.5), ("repetition", 0.5)),
        )
    },
    "reward.repetition_ngram": (9, [OUTCOME | on(reward__repetition=0.5)], [OUTCOME, STEPS]),
    **{f"reward.verifier_{name}": (3.0, [VERIFIED], [STEPS]) for name in ("seconds", "gib")},
    "reward.process": ("module:function", [STEPS, OUTCOME], [PAPER, ADDITIVE, GTPO]),
    **{
        f"reward.process_{name}": (3.0, [JUDGED, CURATED], [STEPS, OUTCOME])
        for name in ("seconds", "gib")
    },
    "reward.process_use": ("curate", [OUTCOME | JUDGED | on(reward__keep=4)], [STEPS, OUTCOME]),
    "reward.process_weight": (0.5, [JUDGED, GAIN], [STEPS, CURATED]),
    "reward.process_return": ("min", [JUDGED], [STEPS, CURATED, GAIN]),
    "reward.keep": (3, [CURATED], [STEPS, OUTCOME, JUDGED]),
    **{f"objective.clip_{name}": (0.1, [STEPS, GSPO], [CISPO, GVPO]) for name in ("low", "high")},
    "objective.dual_clip": (3.0, [STEPS], [GSPO, CISPO, GVPO]),
    "objective.ratio_cap": (5.0, [CISPO], [STEPS, GSPO, GVPO]),
    "objective.gvpo_scale": (0.5, [GVPO], [STEPS, CISPO]),
    "objective.kl": ("k2", [STEPS, CISPO], [FREE, GVPO]),
    "objective.kl_correction": (True, [STEPS], [FREE, GVPO]),
    "objective.entropy_bonus": (0.1, [STEPS, FREE], [GVPO]),
    "objective.reduction": ("seq_mean_token_sum", [STEPS, CISPO], [GVPO]),
    "objective.sampler_cap": (3.0, [STEPS], [GVPO]),
    "optim.do_share": (0.5, [MOVED, MOVED_OUTCOME], [STEPS, OUTCOME]),
    "checkpoint.keep_best": (1, [on(eval__every=5)], [STEPS]),
    "log.rollouts": (4, [STEPS], [on(log__rollouts_every=0)]),
    "log.kl_alarm": (0.5, [STEPS], [FREE, GVPO]),
}


def leaves(section, path="", conditions=()):
    """(path, its conditions) of every field, those inside sections too."""
    for field in dataclasses.fields(section):
        value, place = getattr(section, field.name), f"{path}{field.name}"
        found = (*conditions, *field.metadata.get("only_if", ()))
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{place}.", found)
        else:
            yield place, found


def frozen(changes):
    config = default()
    with config.unlocked():
        for path, value in changes.items():
            section, _, name = path.rpartition(".")
            (operator.attrgetter(section)(config) if section else config)[name] = value
    return freeze(config)


def test_every_field_has_a_row_or_is_always_read():
    always = [
        f"{section}.{name}" if section else name
        for section, names in ALWAYS.items()
        for name in names.split()
    ]
    conditional = {path: found for path, found in leaves(Config())}
    assert sorted([*always, *ROWS]) == sorted(conditional)
    assert {path for path, found in conditional.items() if found} == set(ROWS)
    assert {other for found in conditional.values() for other, _ in found} >= set(NEEDS)


@pytest.mark.parametrize("path", ROWS)
def test_it_is_set_where_it_is_read_and_refused_where_it_is_not(path):
    value, read, unread = ROWS[path]
    for changes in read:
        assert operator.attrgetter(path)(frozen(changes | {path: value})) == value
    for changes in unread:
        frozen(changes)
        with pytest.raises(UserError, match=f"^config.{path} = .*; .*leave it at") as error:
            frozen(changes | {path: value})
        assert "\n" not in str(error.value)

"""Configurations whose fields are each valid, but not together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gccpo_jax.config.sections import WARM_UP
from gccpo_jax.config.unread import check_unread
from gccpo_jax.errors import UserError

if TYPE_CHECKING:
    from gccpo_jax.config.sections import Config


def check_combinations(c: Config) -> None:
    """Refuses combinations that cannot run, or that would run without what was asked for.

    Raises:
      UserError: names the field, its value and what is valid.
    """
    check_unread(c)
    _refuse(sizes(c))
    _refuse(branches(c))
    if c.credit.of_steps:
        _refuse(step_credit(c))
    _refuse(outcome_credit(c))
    _refuse(interventions_on_questions(c))
    _refuse(process_reward(c))
    _refuse(objective(c))


def sizes(c: Config) -> list[tuple[bool, str]]:
    """Batches that do not divide, queues that cannot be, more traced steps than there are."""
    shards = c.mesh.data * c.mesh.fsdp
    rollouts = c.batch_size * c.group_size
    micro = c.optim.micro_batch or c.batch_size
    traced = c.log.profile
    return [
        (
            traced > 0 and c.steps < WARM_UP + traced,
            f"config.log.profile = {traced} with steps = {c.steps}: the first {WARM_UP} steps "
            f"compile and are not traced; expected steps of at least {WARM_UP + traced}",
        ),
        (
            bool(c.batch_size % shards),
            f"config.batch_size = {c.batch_size}: expected a multiple of mesh.data x mesh.fsdp = "
            f"{c.mesh.data} x {c.mesh.fsdp}",
        ),
        (
            bool(c.batch_size % micro or micro % shards),
            f"config.optim.micro_batch = {micro}: expected a divisor of batch_size = "
            f"{c.batch_size} and a multiple of mesh.data x mesh.fsdp = {shards}",
        ),
        (
            bool(c.optim.memory_gib and c.optim.micro_batch),
            f"config.optim.memory_gib = {c.optim.memory_gib} with micro_batch = "
            f"{c.optim.micro_batch}: the one is found from the other; set either to 0",
        ),
        (
            c.sampling.slots >= rollouts,
            f"config.sampling.slots = {c.sampling.slots}: expected fewer than the batch_size x "
            f"group_size = {rollouts} rollouts of a step, or 0 for all at once",
        ),
        (
            c.sampling.slots > 0 and shards > 1,
            f"config.sampling.slots = {c.sampling.slots} with mesh.data x mesh.fsdp = {shards}: "
            "a queue serves the questions of one device; leave slots at 0",
        ),
    ]


def branches(c: Config) -> list[tuple[bool, str]]:
    """Branches that cannot be continued so."""
    shards = c.mesh.data * c.mesh.fsdp
    return [
        (
            c.counterfactual.from_departure and shards > 1,
            f"config.counterfactual.from_departure = True with mesh.data x mesh.fsdp = {shards}: "
            "the branches of a mesh are decoded all at once, as long as the longest; leave it off",
        ),
    ]


def outcome_credit(c: Config) -> list[tuple[bool, str]]:
    """Baselines and shaped rewards that cannot be."""
    credit, shaping = c.credit, c.reward
    return [
        (
            credit.baseline == "pass_at_k" and credit.pass_k > c.group_size,
            f"config.credit.pass_k = {credit.pass_k}: expected at most group_size = "
            f"{c.group_size}, there are no larger subsets of a group",
        ),
        (
            credit.ddof >= c.group_size,
            f"config.credit.ddof = {credit.ddof}: expected less than group_size = "
            f"{c.group_size}, no deviation is left",
        ),
        (
            shaping.cosine and bool(shaping.length_penalty or shaping.exploration),
            "config.reward.cosine = True: it is a reward of length by itself; leave "
            "reward.length_penalty and exploration at 0",
        ),
        (
            shaping.overlong > c.sampling.max_tokens,
            f"config.reward.overlong = {shaping.overlong}: expected at most sampling.max_tokens = "
            f"{c.sampling.max_tokens}, of which it is the last part",
        ),
    ]


def interventions_on_questions(c: Config) -> list[tuple[bool, str]]:
    """Values in other words, groups over wordings, do-updates: what they need and exclude."""
    section, credit, groups = c.counterfactual, c.credit, c.sampling.surface_groups
    moved = section.transport != "none"
    transport = f"config.counterfactual.transport = {section.transport!r}"
    shaped = c.reward.by_length or c.reward.repetition
    asked = f"config.sampling.surface_groups = {groups}"
    return [
        (
            moved and section.value != "continued",
            f"{transport}: its values are continued branches; leave counterfactual.value at "
            "'continued'",
        ),
        (
            moved and credit.kind == "outcome" and section.boundaries > 0,
            f"config.counterfactual.boundaries = {section.boundaries}: credit.kind 'outcome' "
            "reads the answer alone in other words; set it to 0",
        ),
        (
            moved and bool(shaped),
            f"{transport}: rewards shaped by length are not read in other words; leave "
            "reward.overlong, length_penalty, cosine, exploration and repetition off",
        ),
        (
            credit.gate_by == "step" and not moved,
            "config.credit.gate_by = 'step': it gates effects by what the policy writes in other "
            f"words, expected credit.kind 'gated_gae' and a transport ({transport})",
        ),
        (
            credit.pooled and (credit.gate or credit.control == "permuted"),
            "config.credit.pooled = True: it takes the place of a sum of gated effects, expected "
            f"credit.gate False (is {credit.gate}) and no control of their order (is "
            f"{credit.control!r})",
        ),
        (
            c.optim.train_branches
            and (moved or section.value != "continued" or not credit.of_steps),
            "config.optim.train_branches = True: there are no branches of the question as asked; "
            f"expected a credit.kind of steps (is {credit.kind!r}), counterfactual.value "
            f"'continued' (is {section.value!r}) and transport 'none' (is {section.transport!r})",
        ),
        (
            c.optim.train_branches and section.draws < 2,
            f"config.counterfactual.draws = {section.draws}: optim.train_branches compares a "
            "branch with the others from its boundary; expected at least 2",
        ),
        (
            c.group_size % groups != 0,
            f"{asked}: expected a divisor of group_size = {c.group_size}",
        ),
        (
            groups > 1 and (c.sampling.dynamic > 0 or bool(c.reward.process)),
            f"{asked}: sampling.dynamic and reward.process know no wordings; leave them off",
        ),
        (
            groups > 1 and c.objective.loss == "gvpo",
            f"{asked}: objective.loss 'gvpo' compares one prompt's group; leave it at 1",
        ),
    ]


def process_reward(c: Config) -> list[tuple[bool, str]]:
    """Scores of steps from outside that cannot be used so."""
    credit, shaping = c.credit, c.reward
    use = shaping.process_use
    curates, streams = use == "curate", use == "advantage"
    return [
        (
            bool(shaping.process) and c.objective.loss == "gvpo" and streams,
            f"config.reward.process = {shaping.process!r}: objective.loss 'gvpo' reads rewards, "
            "not advantages; leave it at '', or curate (process_use 'curate')",
        ),
        (
            not streams and credit.kind != "outcome",
            f"config.reward.process_use = {use!r}: expected credit.kind 'outcome' (is "
            f"{credit.kind!r}); step credit compares all trajectories of a group",
        ),
        (
            use == "gain" and credit.baseline == "pass_at_k",
            "config.reward.process_use = 'gain': credit.baseline 'pass_at_k' is of right and wrong "
            "alone; expected another",
        ),
        (
            curates and not 2 <= shaping.keep < c.group_size,
            f"config.reward.keep = {shaping.keep}: process_use 'curate' expects at least 2 and "
            f"less than group_size = {c.group_size}",
        ),
    ]


def step_credit(c: Config) -> list[tuple[bool, str]]:
    """Credit of steps without the readings it is made of."""
    kind, cf = c.credit.kind, c.counterfactual
    nuisance, content = sum(cf.arms_of("nuisance").values()), sum(cf.arms_of("content").values())
    no_nuisance, no_content = (_none(cf.arms_of(family)) for family in ("nuisance", "content"))
    term = c.credit.step_term
    signed = term in ("gated", "observational", "prover", "root")
    gates = kind in ("gated_gae", "additive") and c.credit.gate and term == "gated"
    needs_q = kind in ("selective", "four_corner") or term == "selectivity"
    named = f"config.credit.kind = {kind!r}" + ("" if signed else f", step_term {term!r}")
    return [
        (
            cf.value == "learned" and not cf.scorer,
            "config.counterfactual.value = 'learned': set counterfactual.scorer to the directory "
            "of a process reward model (python -m gccpo_jax.prm makes one)",
        ),
        (
            cf.boundaries == 0,
            "config.counterfactual.boundaries = 0: expected at least 1 with credit.kind "
            f"{kind!r} (without steps use credit.kind 'outcome')",
        ),
        (
            gates and c.credit.gate_by != "step" and nuisance == 0,
            f"config.credit.gate = True: there is no R to gate with, {no_nuisance}; set "
            "credit.gate to False or ask for arms",
        ),
        (
            term == "robustness" and nuisance == 0,
            f"{named}: there is no R, {no_nuisance}; ask for arms",
        ),
        (
            c.credit.gate_by == "equivariance" and cf.equivariance_arms == 0,
            "config.credit.gate_by = 'equivariance': it gates by rewrites with other numbers, "
            "expected counterfactual.equivariance_arms at least 1 (is 0)",
        ),
        (
            needs_q and nuisance == 0,
            f"{named}: there is no R for Q = R S, {no_nuisance}; ask for some",
        ),
        (
            needs_q and content == 0,
            f"{named}: there is no S for Q = R S, {no_content}; ask for content arms",
        ),
        (
            kind == "paper" and (cf.latent_arms == 0 or nuisance > cf.latent_arms),
            "config.credit.kind = 'paper': it perturbs latents only, expected "
            f"counterfactual.latent_arms at least 1 (is {cf.latent_arms}) and no other nuisance "
            f"arms (are {nuisance - cf.latent_arms})",
        ),
        (
            cf.equivalent_arms == 1,
            "config.counterfactual.equivalent_arms = 1: expected 0 or at least 2, since R needs "
            "two distinct wordings",
        ),
    ]


def objective(c: Config) -> list[tuple[bool, str]]:
    """Losses that do not go with a reduction, a credit or a penalty."""
    o, by_outcome = c.objective, c.credit.kind == "outcome"
    by_response = c.credit.kind in ("outcome", "grpo_s")
    return [
        (
            o.loss in ("gspo", "gspo_token") and o.reduction != "seq_mean_token_mean",
            f"config.objective.reduction = {o.reduction!r}: expected 'seq_mean_token_mean' with "
            f"loss {o.loss!r}, whose one ratio per response the others weigh by length",
        ),
        (
            o.loss == "gspo" and not by_response,
            f"config.objective.loss = 'gspo': it averages the step credit of {c.credit.kind!r} "
            "over each response; expected 'gspo_token', or credit.kind 'outcome' or 'grpo_s'",
        ),
        (
            o.loss == "gvpo" and not by_outcome,
            "config.objective.loss = 'gvpo': it reads rewards and would ignore credit.kind "
            f"{c.credit.kind!r}; expected credit.kind 'outcome'",
        ),
        (
            o.loss == "gvpo" and o.beta > 0,
            f"config.objective.beta = {o.beta}: loss 'gvpo' has its own pull to the old policy "
            "(gvpo_scale) and no KL penalty; set beta to 0",
        ),
        (
            o.loss == "ppo" and 0 < o.dual_clip <= 1 + o.clip_high,
            f"config.objective.dual_clip = {o.dual_clip}: expected 0 (off) or above "
            f"1 + clip_high = {1 + o.clip_high}",
        ),
    ]


def _none(arms: dict[str, int]) -> str:
    """That there are none, in words."""
    *most, last = arms
    return f"counterfactual.{', '.join(most)} and {last} are 0"


def _refuse(checks: list[tuple[bool, str]]) -> None:
    for wrong, message in checks:
        if wrong:
            raise UserError(message)

"""The configuration: frozen dataclasses, a comment per field, checked once.

A config file is Python and returns `default()` with some fields changed; the
command line overrides fields (`--config.optim.lr=1e-4`). `freeze` then converts
the mutable `ConfigDict` into the frozen `Config` and refuses unknown fields,
wrong types, values out of range and impossible combinations, naming the field.
A room takes its own section (frozen and hashable, so static under `jit`) or plain arguments;
only `training` and the commands see the whole `Config`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gccpo_jax.config.fields import (
    above,
    arms,
    choice,
    field,
    fraction,
    is_day,
    least,
    moment,
    only_if,
    section,
)

RATIO_LOSSES = "ppo gspo gspo_token cispo"
MOVED = ("surface", "number", "both")
"""Transports that rewrite something."""

GATED = ("gated", "observational")
"""Step terms with a gate."""

BASELINES = ("leave_one_out", "zscore", "mean", "maxrl")
"""Baselines of any outcome; "pass_at_k" is of right and wrong only."""

REDUCTIONS = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "seq_mean_token_sum_norm")
WARM_UP = 2
"""Steps of a process that come before those that are traced: they compile."""

WITHOUT_STEPS = ("outcome", "gtpo", "grpo_s", "sdpo", "gcpo")
"""Kinds of credit that read no steps."""


def kinds(names: str, default: Any) -> Any:
    """A field that some kinds of credit read."""
    return only_if("credit.kind", default, *names.split())


def losses(names: str, default: Any) -> Any:
    """A field that some losses read."""
    return only_if("objective.loss", default, *names.split())


def of_step(default: Any) -> Any:
    """A field of how steps are read."""
    return only_if("credit.of_steps", default)


def of_branch(default: Any) -> Any:
    """A field of how branches are continued."""
    return only_if("reads_steps", only_if("counterfactual.value", default, "continued", "learned"))


def of_law(default: Any) -> Any:
    """A field of how answer laws are read."""
    return only_if("reads_laws", default)


def of_length(default: Any) -> Any:
    """A field of rewards that are shaped by length.

    Steps are measured in probabilities of being right, GTPO in right and wrong.
    """
    return kinds("outcome", only_if("credit.baseline", default, *BASELINES))


def of_penalty(default: Any) -> Any:
    """A field of the KL penalty, which only a loss of ratios has."""
    return losses(RATIO_LOSSES, only_if("objective.beta", default))


@dataclasses.dataclass(frozen=True)
class ScratchConfig:
    """Shape of a decoder trained from random weights (sft with policy.init 'scratch')."""

    layers: int = least(1, 4)  # L
    width: int = least(1, 128)  # M; a multiple of heads
    heads: int = least(1, 4)  # of attention
    kv_heads: int = least(1, 4)  # divides heads
    mlp: int = least(1, 384)  # width of the feed-forward layer


MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
"""Matrices of a layer that may have low-rank adapters."""


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters train and the model stays as it was loaded (policy/lora.py)."""

    rank: int = least(0, 0)  # r; 0: no adapters, all parameters train
    # The adapters' product counts alpha / r times.
    alpha: float = only_if("policy.lora.rank", above(0, 16.0))
    targets: str = only_if(
        "policy.lora.rank",
        field(
            " ".join(MATRICES),
            lambda names: bool(names.split()) and set(names.split()) <= set(MATRICES),
            "some of " + " ".join(MATRICES),
        ),
    )  # matrices that have them


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    # "tiny" or "two_ways" (shipped), "smollm2", a Hugging Face directory or id, a .gguf file
    path: str = only_if("policy.init", "tiny", "load")
    init: str = choice("load", "scratch")  # "scratch" (sft, task chain or programs)
    dtype: str = choice("", "float32", "bfloat16")  # of what is trained; "": as stored
    compute: str = choice("", "float32", "bfloat16")  # weights in use are rounded to; "": dtype
    # Keep of each layer its input alone for the backward pass, not its products: less memory.
    remat: bool = False
    # "cudnn": a kernel that writes no scores attends where many tokens are read at once (one NVIDIA
    # GPU, bfloat16); refused where it cannot run, where "xla" does.
    attention: str = choice("xla", "cudnn")
    lora: LoraConfig = only_if("policy.init", section(LoraConfig), "load")
    scratch: ScratchConfig = only_if("policy.init", section(ScratchConfig), "scratch")


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    name: str = "chain"  # "chain", "gsm8k", "math", "reasoning_gym:<data set>"
    options: dict = dataclasses.field(default_factory=dict)  # the task's own, see docs/tasks.md
    # A chat model that rewords the questions, for `surface`; "": the task's own rewrites.
    paraphraser: str = ""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    path: str = ""  # training questions, for tasks that read files
    eval_path: str = ""  # held-out questions, for tasks that read files
    max_prompt_tokens: int = least(1, 64)  # S; longer prompts are counted and skipped
    shuffle: bool = True  # a new order each epoch, by seed
    template: dict = dataclasses.field(default_factory=dict)  # variables of the chat template
    # YYYY-MM-DD, what chat templates that ask for today's date are told.
    date: str = field("2024-07-26", is_day, "a day as YYYY-MM-DD")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    temperature: float = above(0, 1.0)  # part of the behaviour law
    top_k: int = least(0, 0)  # 0 keeps all tokens
    top_p: float = field(1.0, lambda p: 0 < p <= 1, "a number in (0, 1]")  # 1 keeps all tokens
    max_tokens: int = least(2, 64)  # T: response tokens, the stop token included
    slots: int = least(0, 0)  # rollouts decoded at a time, the others wait; 0: all at once
    # M: the group is split over so many surface rewrites of its question; 1: sampled as asked.
    surface_groups: int = least(1, 1)
    dynamic: int = least(0, 0)  # rounds of others for questions of equal outcomes; 0: off (DAPO)


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """Used wherever a response is cut into steps."""

    max_steps: int = least(1, 16)  # E; what comes later joins the last step
    min_tokens: int = least(1, 2)  # shorter steps are merged
    max_tokens: int = least(0, 0)  # longer steps are split; 0 never


@dataclasses.dataclass(frozen=True)
class CounterfactualConfig:
    # K': most places where Phi is read, besides the end
    boundaries: int = only_if("reads_steps", least(0, 2))
    # Chance that Phi is read after a step, one coin per step: what comes later has no say.
    boundary_share: float = of_step(field(1.0, lambda p: 0 < p <= 1, "a number in (0, 1]"))
    draws: int = only_if("counts_draws", least(1, 2))  # N: continued branches per boundary
    branch_tokens: int = of_branch(least(0, 0))  # token limit of one; 0: as the response
    latent_arms: int = arms("nuisance", 2)  # P of `latent`
    # Noise scale relative to a channel's RMS over the step.
    latent_sigma: float = of_step(only_if("counterfactual.latent_arms", least(0, 0.3)))
    surface_arms: int = arms("nuisance", 1)  # P of `surface`; needs a task with surface rewrites
    equivalent_arms: int = arms("nuisance", 0)  # resamples; the same result counts for R
    corrupt_arms: int = arms("content", 0)  # P of `corrupt`, for S; needs a task that can corrupt
    swap_arms: int = arms("content", 0)  # P of `swap`, for S
    # Nats per token a swapped step may be less likely.
    swap_delta: float = of_step(only_if("counterfactual.swap_arms", least(0, 1.0)))
    # Rewrites with other numbers, for Eq; needs such a task.
    equivariance_arms: int = of_step(least(0, 0))
    # The same tapes at all boundaries of a trajectory.
    shared_noise: bool = only_if("counterfactual.transport", of_branch(True), "none")
    # Branches are decoded from the token at which they leave the trajectory, which is read once
    # more to find it: the same branches for fewer decoded tokens, see counterfactual/departures.py.
    from_departure: bool = only_if(
        "counterfactual.branch_tokens",
        only_if(
            "counterfactual.shared_noise",
            only_if("counterfactual.transport", of_branch(False), "none"),
            True,
        ),
        0,
    )
    # A branch that writes the trajectory's own rest again counts by its chance, which is known, not
    # by how often it came: the same Phi in the mean, with less noise; see
    # counterfactual/known_rest.py.
    known_rest: bool = only_if("counterfactual.transport", of_branch(False), "none")
    # How Phi is read: "continued" by branches, "scored" by answering at once, "learned" by a
    # process reward model and branches from some boundaries, see counterfactual/learned.py.
    value: str = of_step(choice("continued", "scored", "learned"))
    # Directory of that model.
    scorer: str = of_step(only_if("counterfactual.value", "", "learned"))
    # Share of boundaries that are branched from.
    learned_share: float = of_step(
        only_if(
            "counterfactual.value",
            field(0.25, lambda p: 0 < p <= 1, "a number in (0, 1]"),
            "learned",
        )
    )
    # Values and outcome are read under rewrites of question and steps: other words, other
    # numbers, or both; "none": as asked.
    transport: str = kinds("gated_gae outcome", choice("none", *MOVED))
    # Rewrites of each kind.
    transport_arms: int = only_if("counterfactual.transport", least(1, 2), *MOVED)
    reader: str = of_law(choice("policy", "reference", "ema"))  # of answer laws (R, S, scored Phi)
    # Of reader "ema": how much of the average stays each step.
    ema: float = of_law(only_if("counterfactual.reader", fraction(0.99), "ema"))
    max_candidates: int = of_law(least(2, 6))  # C: the gold answer and the most frequent others
    # A, with the one that ends it; longer ones are no candidates.
    max_answer_tokens: int = of_law(least(2, 6))
    max_other: float = of_law(fraction(0.2))  # more mass outside the candidates: law unreadable
    min_gate: float = of_law(fraction(0.5))  # reader gate under which R is not used (weight 1)

    def arms_of(self, family: str) -> dict[str, int]:
        """The interventions of a family as fields of this section, and how many arms each has."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if f.metadata.get("family") == family}


@dataclasses.dataclass(frozen=True)
class CreditConfig:
    """How scores become advantages; a field for some kinds only says so in its first argument."""

    # "gated_gae": Phi as the critic, R gates positive effects. "additive": outcome and gated
    # effects as two streams. "selective": the outcome's advantage in proportion to Q = R S.
    # "four_corner": outcome and soundness of the trajectory. "paper": a reconstruction, see
    # advantage/paper.py. "l2t": Learning to Think. "terminate": the outcome over that of answering
    # at once. Without step credit: "outcome" (GRPO, RLOO, Dr.GRPO, Pass@k), "gtpo" (tokens) and
    # "grpo_s" (trajectories), which shape a reward of right and wrong by entropy, and "sdpo": what
    # the policy would write with a right sibling before its eyes, and "gcpo": the z-score in the
    # light of what the policy writes with its group in view.
    kind: str = choice(
        *("gated_gae", "additive", "selective", "four_corner", "paper", "l2t", "terminate"),
        *WITHOUT_STEPS,
    )
    # What a step earns: "gated" is the method, the others are controls, see advantage/controls.py.
    step_term: str = kinds(
        "gated_gae",
        only_if(
            "credit.pooled",
            choice(
                *("gated", "observational", "non_causal", "robustness", "effect_size"),
                *("selectivity", "prover", "root"),
            ),
            False,
        ),
    )
    # "equivariance": by R_k times the trajectory's Eq under other numbers. "step": by rho_k,
    # whether the policy would have written the step in other words too.
    gate_by: str = kinds(
        "gated_gae additive",
        only_if(
            "credit.gate",
            only_if("credit.step_term", choice("robustness", "equivariance", "step"), "gated"),
        ),
    )
    # Gives a trajectory's credit to the wrong steps, see advantage/controls.py.
    control: str = kinds("gated_gae", choice("none", "permuted", "inverted"))
    # R gates positive effects.
    gate: bool = kinds("gated_gae additive", only_if("credit.step_term", True, *GATED))
    # Also at the answer step.
    gate_answer: bool = kinds(
        "gated_gae additive", only_if("credit.gate", only_if("credit.step_term", True, *GATED))
    )
    # Decay per `tokens_per_unit` tokens.
    lam: float = kinds("gated_gae", only_if("credit.pooled", fraction(0.95), False))
    # t0; 0: a step is one unit.
    tokens_per_unit: float = kinds("gated_gae", only_if("credit.pooled", least(0, 10.0), False))
    # The return after step k is its value pooled with the one draw that the outcome is, in
    # place of a sum of later effects.
    pooled: bool = kinds("gated_gae", False)
    # Weight, in draws, of the other trajectories' mean reward beside Phi as a baseline.
    shrink: float = kinds("gated_gae", least(0, 0.0))
    # Of the transported outcome in r.
    kappa: float = kinds(
        "gated_gae outcome", only_if("counterfactual.transport", fraction(1.0), *MOVED)
    )
    # Inside a step; of "additive" the step stream only. "paper" always takes surprise.
    # "unsure": all of a step's advantage on the tokens whose probability is below .9.
    token_weights: str = kinds(
        "gated_gae additive selective", choice("uniform", "surprise", "unsure")
    )
    # Of the outcome; "four_corner" always takes leave-one-out, other kinds the z-score.
    baseline: str = kinds(
        "additive selective outcome", losses(RATIO_LOSSES, choice(*BASELINES, "pass_at_k"))
    )
    ddof: int = kinds(  # a deviation divides by G - ddof
        "additive selective paper l2t outcome gtpo grpo_s gcpo",
        only_if("divides_by_deviation", losses(RATIO_LOSSES, least(0, 1))),
    )
    # Beside the deviation, of z-scores and of "pass_at_k".
    epsilon: float = kinds(
        "additive selective paper l2t outcome gtpo grpo_s gcpo",
        only_if("adds_epsilon", losses(RATIO_LOSSES, least(0, 1e-4))),
    )
    pass_k: int = kinds(  # k of baseline "pass_at_k"
        "additive selective outcome", only_if("credit.baseline", least(1, 4), "pass_at_k")
    )
    entropy_base: float = kinds("gtpo grpo_s", least(0, 1.0))  # of right; wrong: its negative
    entropy_bonus: float = kinds("gtpo grpo_s", least(0, 0.1))  # of relative entropy
    entropy_floor: float = kinds("gtpo grpo_s", above(0, 1e-6))  # least entropy, in nats
    additive_weight: float = kinds("additive", least(0, 0.5))  # of the step stream; 0: outcome
    selective_floor: float = kinds("selective", least(0, 0.1))  # what a step with Q = 0 keeps
    corner_a: float = kinds("four_corner", fraction(0.25))  # pays right without soundness
    corner_b: float = kinds("four_corner", fraction(0.5))  # pays soundness without right
    paper_alpha: float = kinds("paper l2t", least(0, 0.9))  # of the step reward beside the outcome
    paper_weight: float = kinds("paper", least(0, 0.8))  # of effectiveness beside robustness
    # Share of a rollout's token rewards left out of its mean at each end.
    paper_truncation: float = kinds(
        "paper l2t", field(0.025, lambda x: 0 <= x < 0.5, "a number in [0, 0.5)")
    )
    paper_floor: float = kinds("paper l2t", above(0, 1e-4))  # least |rt|, about 1 / tokens
    paper_clip: float = kinds("paper l2t", above(0, 5.0))  # largest |advantage| of a token
    causal_budget: int = kinds("gcpo", least(1, 2))  # n': outputs, and responses after each
    causal_scale: float = kinds("gcpo", above(0, 2.0))  # largest factor on an advantage
    # Of a step's (g . (theta - theta_0))^2 against its progress; 0: not computed.
    compression: float = kinds("l2t", least(0, 0.0))

    @property
    def of_steps(self) -> bool:
        """Whether the kind reads steps at all."""
        return self.kind not in WITHOUT_STEPS


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """What is added to the outcome before its advantage; logged accuracy stays the outcome."""

    # Last tokens of the limit, over which -1 is reached; 0: off.
    overlong: int = of_length(least(0, 0))
    # 0: off.
    length_penalty: float = of_length(field(0.0, lambda x: 0 <= x < 1, "a number in [0, 1)"))
    # In place of the outcome: right worth less, wrong more, the longer the response is.
    cosine: bool = of_length(False)
    # Share of the reward that is length itself, L / max_tokens; 0: off.
    exploration: float = of_length(fraction(0.0))
    # Taken from the advantage of tokens that repeat; 0: off.
    repetition: float = of_length(least(0, 0.0))
    repetition_ngram: int = only_if("reward.repetition", least(1, 40))  # tokens that come again
    # "package.module:function" in place of the task's, see tasks/checking/user.py
    verifier: str = ""
    # For one response; past it, it is unscorable.
    verifier_seconds: float = only_if("reward.verifier", above(0, 60.0))
    verifier_gib: float = only_if("reward.verifier", above(0, 4.0))  # memory of its process, GiB
    # "package.module:function" that scores steps, see training/process_reward.py, or
    # "prm:DIRECTORY", a process reward model, see policy/step_scorer.py; "": none
    process: str = kinds("outcome gated_gae", "")
    # For one response; past it, it is not judged.
    process_seconds: float = only_if("reward.process", above(0, 60.0))
    process_gib: float = only_if("reward.process", above(0, 4.0))  # memory of its process, GiB
    # "advantage": process supervision, one more stream. "curate": PROF's filter, no stream.
    # "gain": what the scores gain from step to step, times the step's tokens, joins the outcome.
    process_use: str = only_if("reward.process", choice("advantage", "curate", "gain"))
    # Of its advantage beside the credit's, or of the gain beside the outcome.
    process_weight: float = only_if(
        "reward.process_use", only_if("reward.process", least(0, 1.0)), "advantage", "gain"
    )
    # Return of a step: the sum of this and later z-scores, or the least of these scores.
    process_return: str = only_if(
        "reward.process_use", only_if("reward.process", choice("sum", "min")), "advantage"
    )
    # Trajectories of a group that PROF's filter keeps; 0: not asked for.
    keep: int = only_if("reward.process_use", least(0, 0), "curate")

    @property
    def by_length(self) -> bool:
        """Whether rewards are shaped by how long the response is."""
        return bool(self.overlong or self.length_penalty or self.cosine or self.exploration)


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What the update minimises; a field for some losses only says so in its first argument."""

    loss: str = choice("ppo", "gspo", "gspo_token", "cispo", "gvpo")  # see objective/losses.py
    # Ratio clip to [1 - clip_low, 1 + clip_high]; GSPO's usual values are 3e-4 and 4e-4.
    clip_low: float = losses("ppo gspo gspo_token", above(0, 0.2))
    clip_high: float = losses("ppo gspo gspo_token", above(0, 0.2))  # see clip_low
    dual_clip: float = losses(  # bounds the ratio where the advantage is negative; usual: 3
        "ppo", field(0.0, lambda c: c == 0 or c > 1, "0 (off) or a number above 1")
    )
    ratio_cap: float = losses("cispo", above(1, 1.28))  # largest ratio itself: 1 + eps, not eps
    gvpo_scale: float = losses("gvpo", above(0, 0.1))  # the paper's beta
    # Weight of the penalty by GCPO's own reference, see training/causal_group.py.
    anchor: float = only_if("credit.kind", least(0, 0.06), "gcpo")
    beta: float = least(0, 0.01)  # weight of the KL to the reference (the initial policy)
    kl: str = of_penalty(choice("k3", "k3_k2", "k2", "k1"))  # see objective/kl.py
    kl_correction: bool = of_penalty(False)  # weigh the estimate by the policy ratio
    entropy_bonus: float = losses(RATIO_LOSSES, least(0, 0.0))  # weight of the law's entropy
    reduction: str = losses(RATIO_LOSSES, choice(*REDUCTIONS))  # see reductions.reduce_tokens
    # Largest weight of a token for pi_old / pi_sampler, where they differ: computing in bfloat16.
    sampler_cap: float = losses(
        RATIO_LOSSES, field(2.0, lambda c: c == 0 or c >= 1, "0 (off) or at least 1")
    )


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    lr: float = above(0, 1e-3)  # peak learning rate
    warmup: int = least(0, 0)  # updates of linear warm-up
    decay: str = choice("constant", "linear", "cosine")  # after warm-up, to 0 at the end
    b1: float = moment(0.9)  # of AdamW: decay of the mean gradient
    b2: float = moment(0.99)  # and of its square
    # Beside the root of the square.
    eps: float = field(1e-8, lambda x: x >= 2**-126, "at least 2**-126: float32 knows no less")
    weight_decay: float = least(0, 0.0)  # per update, as a multiple of the learning rate
    clip_norm: float = least(0, 1.0)  # global gradient norm; 0 does not clip
    epochs: int = least(1, 1)  # mu: optimizer updates on each batch of rollouts
    micro_batch: int = least(0, 0)  # questions in memory at once in the update; 0: all
    memory_gib: float = least(0, 0.0)  # of a device, for the largest micro_batch that fits; 0: off
    # Share of questions whose trajectories train in other words, by the counterfactual.transport.
    do_share: float = only_if("counterfactual.transport", fraction(0.0), *MOVED)
    # Branches train too, each against the others from its boundary.
    train_branches: bool = False
    max_skipped: int = least(0, 10)  # updates in a row, not finite, that end the run; 0: never


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    every: int = least(0, 0)  # steps; 0: before and after only
    questions: int = least(1, 400)  # of split "id"
    ood_questions: int = least(0, 100)  # of each other split; 0: split "id" alone
    draws: int = least(0, 0)  # k of mean@k at the sampling law, on "id"; 0 skips it
    batch: int = least(1, 200)  # questions decoded at once
    max_prompt_tokens: int = least(0, 0)  # 0: data.max_prompt_tokens
    max_tokens: int = least(0, 0)  # response tokens; 0: sampling.max_tokens


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: int = least(0, 50)  # steps; 0 saves at the end only
    keep: int = least(1, 3)  # newest checkpoints kept
    # And this many of the best on split "id", as eval.every finds them; 0: none.
    keep_best: int = only_if("eval.every", least(0, 0))


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    data: int = least(1, 1)  # questions are split over data x fsdp
    fsdp: int = least(1, 1)  # parameters are split over fsdp
    tensor: int = least(1, 1)  # heads, mlp and vocabulary are split over tensor


@dataclasses.dataclass(frozen=True)
class LogConfig:
    rollouts_every: int = least(0, 10)  # steps between rollout files; 0 writes none
    rollouts: int = only_if("log.rollouts_every", least(1, 2))  # questions per rollout file
    # Event files beside metrics.jsonl.
    tensorboard: bool = True
    wandb: str = ""  # project of Weights & Biases; "": it is not told
    mlflow: str = ""  # experiment of MLflow
    trackio: str = ""  # project of trackio
    profile: int = least(0, 0)  # steps traced, after the first two of a process; 0: none
    # A warning where metric `kl` is above; 0: none.
    kl_alarm: float = only_if("objective.beta", least(0, 0.0))
    entropy_alarm: float = least(0, 0.0)  # a warning where metric `entropy` is below; 0: none
    note: str = ""  # a line for people, printed under the table at the end


@dataclasses.dataclass(frozen=True)
class Config:
    # Of questions' order and of all noise.
    seed: int = field(0, lambda s: 0 <= s < 2**32, "a whole number from 0 to 2**32 - 1")
    steps: int = least(1, 100)  # optimisation steps (batches of rollouts, or of demonstrations)
    batch_size: int = least(1, 16)  # B: questions per step
    group_size: int = least(2, 8)  # G: trajectories per question
    policy: PolicyConfig = section(PolicyConfig)
    task: TaskConfig = section(TaskConfig)
    data: DataConfig = section(DataConfig)
    sampling: SamplingConfig = section(SamplingConfig)
    segmentation: SegmentationConfig = only_if("cuts_steps", section(SegmentationConfig))
    counterfactual: CounterfactualConfig = section(CounterfactualConfig)
    credit: CreditConfig = section(CreditConfig)
    reward: RewardConfig = section(RewardConfig)
    objective: ObjectiveConfig = section(ObjectiveConfig)
    optim: OptimConfig = section(OptimConfig)
    eval: EvalConfig = section(EvalConfig)
    checkpoint: CheckpointConfig = section(CheckpointConfig)
    mesh: MeshConfig = section(MeshConfig)
    log: LogConfig = section(LogConfig)

    @property
    def reads_steps(self) -> bool:
        """Whether trajectories are read at all: for steps, or for their outcome in other words."""
        return self.credit.of_steps or self.counterfactual.transport != "none"

    @property
    def cuts_steps(self) -> bool:
        """Whether responses are cut into steps: to be read, or to be judged from outside."""
        return self.reads_steps or bool(self.reward.process)

    @property
    def counts_draws(self) -> bool:
        """Whether it matters how many draws a value stands for: branches, or weights by them."""
        weighs = self.credit.pooled or self.credit.shrink > 0
        return self.reads_steps and (self.counterfactual.value != "scored" or weighs)

    @property
    def divides_by_deviation(self) -> bool:
        """Whether advantages are z-scores; kinds of credit without a choice always take them."""
        kind, baseline = self.credit.kind, self.credit.baseline
        return kind in ("paper", "l2t", "gtpo", "grpo_s", "gcpo") or baseline == "zscore"

    @property
    def adds_epsilon(self) -> bool:
        """Whether something is added to a deviation."""
        return self.divides_by_deviation or self.credit.baseline == "pass_at_k"

    @property
    def reads_laws(self) -> bool:
        """Whether answer laws are read: for arms, scored values or terms made of laws."""
        section, credit = self.counterfactual, self.credit
        arms = {**section.arms_of("nuisance"), **section.arms_of("content")}
        of_laws = credit.step_term in ("observational", "non_causal") or credit.kind == "paper"
        asked = any(arms.values()) or section.equivariance_arms or section.value == "scored"
        return credit.of_steps and (bool(asked) or of_laws)

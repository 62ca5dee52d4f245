"""Forward tokens and FLOPs of a configuration beyond the rollout's.

Tokens of one trajectory of T tokens in K steps of t = T/K, with c candidate answers of
L tokens, P arms, N draws, K' read boundaries, branches of h tokens, a question of q:

    readout chain            (K + 1) c L        latent              K P c L
    deletion                 0                  replaced step       K P (t + c L)
    surface                  P (q + T) + K P c L                    (+ K P t, if decoded)
    equivariance             P (q + T + 2 L)        another reader  T + q / G
    Phi                      K' N h             total-effect audit  K P (t + N h)
    departures               T - t, at most
    branches that train      K' N T
    re-generations (gcpo)    (2 q + G T)(1 / G + 2 n') + T n' (1 / G + 2 n' + 1)
    teacher (sdpo)           2 (q + T)              compression     T, forward and along

A replaced step (`swap`, `corrupt`, `equivalent`, `resample`) is read once per arm, then
its answers are; `equivalent` and `resample` decode it first. Deletion is the law one step
earlier, which the chain has read. All of it attends to prefixes that the rollout encoded.
Branches that are decoded from their departures are shorter by what they share with the trajectory:
K' N h is the most. Not counted: the cue, once per readout, and the last token of a prefix, which
a branch reads again. A question in other words counts for each trajectory, though the group shares
it.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib

from gccpo_jax.config import Config
from gccpo_jax.counterfactual.interventions import INTERVENTIONS
from gccpo_jax.counterfactual.transport import FAMILIES
from gccpo_jax.policy import model, weights
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.locate import SHIPPED, locate

REWRITTEN = "in other words"
TRAINED = "branches, trained"
DEPARTED = "departures"
TAUGHT = "teacher"
COMPRESSED = "compression"
CAUSAL = "re-generations"
COUNTED = (REWRITTEN, TRAINED, DEPARTED, TAUGHT, COMPRESSED, CAUSAL)
"""Rows of trajectories that are rewritten or read again, and of branches that the update reads with
what they went on from: a run counts these tokens itself."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of one trajectory; all positive, the branch may be 0."""

    steps: float  # K, steps whose laws are read
    tokens: float  # T
    prompt: float  # q
    branch: float  # h, mean tokens of a continued branch
    candidates: float  # c
    answer: float  # L, tokens of an answer, with the one that ends it

    @property
    def step(self) -> float:
        """t = T / K."""
        return self.tokens / self.steps

    @property
    def scored(self) -> float:
        """c L: tokens of one scored readout."""
        return self.candidates * self.answer

    @property
    def end(self) -> float:
        """T (K + 1) / 2K: where a step ends, on average."""
        return self.tokens * (self.steps + 1) / (2 * self.steps)


@dataclasses.dataclass(frozen=True)
class Row:
    """One item of a budget, for one trajectory."""

    name: str
    tokens: float
    decoded: bool  # one after the other; False: many at once, which is faster
    multiple: float  # of the rollout's tokens
    flops: float | None  # None if the model's shape is not known


@dataclasses.dataclass(frozen=True)
class Budget:
    """A configuration's cost; the first row is the rollout, the others come on top of it."""

    rows: tuple[Row, ...]
    trajectories: int  # of one optimisation step: B G

    @property
    def total(self) -> Row:
        """The sum of all rows but the rollout."""
        extra = self.rows[1:]
        known = all(row.flops is not None for row in self.rows)
        return Row(
            name="sum of the extra",
            tokens=sum(row.tokens for row in extra),
            decoded=any(row.decoded for row in extra),
            multiple=sum(row.multiple for row in extra),
            flops=sum(row.flops for row in extra) if known else None,
        )


def chain(s: Sizes) -> float:
    """Scored readout before the first and after every step: (K + 1) c L."""
    return (s.steps + 1) * s.scored


def latent(s: Sizes, arms: int) -> float:
    """Scored readout after each step under `arms` latent perturbations: K P c L."""
    return s.steps * arms * s.scored


def replaced(s: Sizes, arms: int) -> float:
    """Each step replaced by `arms` others, read and scored: K P (t + c L)."""
    return s.steps * arms * (s.step + s.scored)


def written(s: Sizes, arms: int) -> float:
    """Each step decoded `arms` times (`equivalent`, `resample`): K P t."""
    return s.steps * arms * s.step


def surface(s: Sizes, arms: int, read: int | None = None) -> float:
    """Question and trajectory encoded once per arm, `read` of K steps scored: P (q + T + K c L)."""
    read = s.steps if read is None else read
    return arms * (s.prompt + s.tokens) + read * arms * s.scored


def continued(s: Sizes, boundaries: int, draws: int) -> float:
    """Phi at K' boundaries by N branches each: K' N h, decoded."""
    return boundaries * draws * s.branch


def contrast(s: Sizes, arms: int, draws: int) -> float:
    """Total effect of `arms` replacements of each step, with branches: K P (t + N h)."""
    return s.steps * arms * (s.step + draws * s.branch)


def flops(arch: Arch, tokens: float, context: float) -> float:
    """2 n + 4 L H D context for each token, n the parameters but for the embedding table.

    The readout counts as parameters (tied or not), for every token: an upper bound
    where logits are not made. `context` is the mean number of tokens attended to.
    """
    leaves = model.layout(arch)
    size = sum(math.prod(leaf.shape) for leaf in leaves.values())
    size -= 0 if arch.tied else math.prod(leaves["embed"].shape)
    attention = 4 * arch.depth * arch.heads * arch.head_dim * context
    return tokens * (2 * size + attention)


def budget(
    config: Config,
    arch: Arch | None,
    *,
    steps: float,
    tokens: float,
    prompt: float,
    branch: float,
    answer: float,
    candidates: float | None = None,
) -> Budget:
    """Cost of `config` for trajectories of the given sizes.

    Args:
      config: fields boundaries, draws, max_candidates and the arms of
        `config.counterfactual`; nothing is read by a `credit.kind` without steps.
      arch: the policy's shape; None leaves FLOPs out.
      steps: K, macro-steps: no more than boundaries + 1 are read. tokens: T. prompt: q.
      branch: h. answer: L. candidates: c; None: the config's most.
    """
    c = config.counterfactual
    s = Sizes(steps, tokens, prompt, branch, candidates or c.max_candidates, answer)
    read, middle = prompt + s.end, prompt + tokens / 2  # mean contexts
    encode = (prompt + tokens) / 2
    grows = prompt + tokens - branch / 2  # a branch starts h before the end

    def row(name: str, decoded: bool, *parts: tuple[float, float]) -> Row:
        count = sum(part for part, _ in parts)
        cost = None if arch is None else sum(flops(arch, *part) for part in parts)
        return Row(name, count, decoded, count / tokens, cost)

    rows = [row("rollout", True, (tokens, middle))]
    share = {"continued": 1.0, "learned": c.learned_share}.get(c.value, 0.0)
    phi = share * continued(s, c.boundaries, c.draws)
    rewrites = len(FAMILIES[c.transport]) * c.transport_arms
    if rewrites:  # encoded once, and continued after each macro-step, the last one included
        moved = rewrites * (prompt + tokens)
        rows.append(row(REWRITTEN, False, (moved, encode)))
        rows.append(row("Phi, in other words", True, (rewrites * (phi + s.branch), grows)))
    elif config.credit.of_steps:
        rows.append(row("Phi, continued", True, (phi, grows)))
    if c.from_departure:  # each trajectory after its first step, once more
        rows.append(row(DEPARTED, False, (tokens - s.step, read)))
    if config.credit.kind == "sdpo":
        rows.append(row(TAUGHT, False, (2 * (prompt + tokens), prompt + tokens)))
    if config.credit.kind == "gcpo":
        size, budget_of = config.group_size, config.credit.causal_budget
        shown = 2 * prompt + size * tokens  # the group between a question and its repetition
        contexts = shown / size + 2 * budget_of * shown
        texts = budget_of * tokens * (1 / size + 2 * budget_of + 1)
        rows.append(row(CAUSAL, True, (contexts + texts, shown / 2)))
    if config.credit.compression:  # a forward pass with its derivative: two
        rows.append(row(COMPRESSED, False, (2 * tokens, middle)))
    if config.credit.of_steps and c.value == "learned":
        rows.append(row("values, foretold", False, (prompt + tokens, encode)))
    if config.optim.train_branches:
        rows.append(row(TRAINED, False, (c.boundaries * c.draws * tokens, middle)))
    if config.reads_laws:
        again = 0.0 if c.reader == "policy" else prompt / config.group_size + tokens
        rows += [
            row("readout chain", False, (chain(s), read)),
            row("delete", False, (0, read)),
        ]
        for each in INTERVENTIONS:
            arms = each.asked(c)
            whole = arms * (prompt + tokens)
            match each.reads:
                case "cache":
                    rows.append(row(each.name, False, (latent(s, arms), read)))
                case "text" if each.arms:
                    laws = surface(s, arms) - whole
                    rows.append(row(each.name, False, (whole, encode), (laws, read)))
                case "text":  # `Eq` reads the last step alone: the new answer and the old one
                    laws = arms * 2 * answer
                    rows.append(row(each.name, False, (whole, encode), (laws, prompt + tokens)))
                case "site":
                    if each.writes:
                        decoded = (written(s, arms), read)
                        rows.append(row(f"{each.name}, decoded", True, decoded))
                    rows.append(row(each.name, False, (replaced(s, arms), read)))
        rows.append(row("encoded by another reader", False, (again, encode)))
    return Budget(tuple(rows), config.batch_size * config.group_size)


def at_the_limits(config: Config, arch: Arch | None) -> Budget:
    """The budget of a configuration whose prompts, responses and answers are as long as allowed.

    Laws are read after each of K = boundaries + 1 macro-steps, and the boundaries lie
    inside, hence h = T/2 unless `branch_tokens` cuts it.
    """
    c, tokens = config.counterfactual, config.sampling.max_tokens
    return budget(
        config,
        arch,
        steps=min(c.boundaries + 1, config.segmentation.max_steps),
        tokens=tokens,
        prompt=config.data.max_prompt_tokens,
        branch=min(tokens / 2, c.branch_tokens or tokens),
        answer=c.max_answer_tokens,
    )


def policy_shape(config: Config) -> Arch | None:
    """The shape of the config's policy if its `config.json` is on this machine, else None.

    Raises:
      UserError: a directory without a `config.json`, or of a model that is not supported.
    """
    path = config.policy.path
    here = path in SHIPPED or pathlib.Path(path).expanduser().is_dir()
    if config.policy.init != "load" or not here:
        return None
    return weights.read_arch(locate(path), config.policy.dtype or None)

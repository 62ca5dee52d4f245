"""The schema of `rollouts/step_<n>.jsonl.gz`: one trajectory per line, in version `VERSION`.

A line is the JSON of a `Trajectory`. What was not measured is null. Laws are over
`candidates`, in their order, and one entry more: all other answers. `docs/report.md` has the
same for people who read the files elsewhere.
"""

from __future__ import annotations

import dataclasses

from gccpo_jax.counterfactual.shown import Arm, Law

VERSION = 1
"""Changes with the meaning, the name or the place of a field."""


@dataclasses.dataclass(frozen=True)
class Branch:
    """A continuation that the policy wrote from after a step."""

    text: str
    answer: str | None  # of the steps so far and the branch
    score: float | None  # None: it could not be scored


@dataclasses.dataclass(frozen=True)
class Step:
    """A piece of a trajectory that shares a credit."""

    text: str
    start: int  # token range in the trajectory, half-open
    end: int
    labels: tuple[str, ...] | None  # the checker's, one per line; None: the task has no checker
    value_before: float  # Phi_{k-1}
    draws_before: int  # that it is the mean of; 0: read at once, or unknown and filled
    value_after: float  # Phi_k; of the last step the outcome
    draws_after: int
    effect: float  # D_k
    robustness: float  # R_k, the group's median where it was not measured
    robustness_measured: bool
    gated: float
    sensitivity: float | None  # S_k
    selectivity: float | None  # Q_k
    rewritten_robustness: float | None  # rho_k, where values are read in other words
    readable: bool  # False: too much of the law is outside the candidates
    score: float  # what the kind of credit makes of the step
    advantage: float  # A_k
    law: Law | None  # after the step; None: no law was read
    arms: tuple[Arm, ...]
    branches: tuple[Branch, ...]  # from after the step


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The response token by token: columns of one length."""

    id: tuple[int, ...]
    text: tuple[str, ...]
    logp: tuple[float, ...]  # under the law that was sampled
    entropy: tuple[float, ...]  # of that law, nats
    advantage: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One response to one question at one step of the run."""

    version: int
    step: int  # of the run
    row: int  # of the batch: the wordings of one question are several rows
    question_id: int
    question: str
    gold: str | None
    trajectory: int  # in its row
    text: str
    answer: str | None
    outcome: float | None  # None: it could not be scored
    reward: float  # the outcome, shaped where the config asks for it
    transported: float | None  # o^do: the outcome in other words, where it was read
    equivariance: float | None  # Eq
    quadrant: str | None  # "sound_right", "flawed_right", ...; None: no checker, or no outcome
    length: int  # tokens
    stopped: bool  # False: the token limit ended it
    advantage: float  # sum over tokens
    candidates: tuple[str, ...] | None  # "" where the gold answer is none; None: no law was read
    law_before: Law | None  # before the first step, where it was read
    steps: tuple[Step, ...] | None  # None: credit by outcome, nothing was read of steps
    tokens: Tokens

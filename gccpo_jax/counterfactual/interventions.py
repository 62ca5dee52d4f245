"""The interventions on a step: one row each.

==============  =========  ====================================================
`identity`      null       the step's own tokens again: the placebo
`latent`        nuisance   noise on the step's cached keys and values
`surface`       nuisance   question and steps in other words: the task's, on text
`equivalent`    nuisance   another wording of the policy's, same stated result
`resample`      baseline   the step once more from the policy, never filtered
`corrupt`       content    another number: the task's, on text
`swap`          content    a sibling's step, if the policy might write it here
`delete`        content    no step: the law one step earlier, hence free
`number`        content    question and steps with other numbers: the task's
==============  =========  ====================================================

The family says how an effect is read: *nuisance* effects should be small
(robustness), *content* effects should be large (sensitivity); they are never
pooled (`reward/arms.py`). The rows below are those that a configuration asks for by
`counterfactual.<name>_arms`; reading, planning, cost and the checks of a task loop over
them, by one of three mechanisms:

    cache   the cached keys and values of the step are edited, nothing is encoded again
    site    the step's tokens are replaced on the cached prefix
    text    the whole trajectory is rewritten and encoded once per arm

To add one: a function that edits, a row here, a field `<name>_arms` in the section.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.counterfactual.arms import Intervened, latent_arms, replaced_arms, surface_arms
from gccpo_jax.counterfactual.places import Asked
from gccpo_jax.counterfactual.step_edits import corrupted, equivalents, swapped
from gccpo_jax.reward.arms import Family
from gccpo_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class Intervention:
    """One row: what is done, how it is read, and what the task must be able to do."""

    name: str  # its arms: config.counterfactual.<name>_arms
    family: Family
    reads: str  # "cache", "site" or "text"
    # From what a reading asks and the number of arms to laws under the intervention; None:
    # `number`, whose rewrites are read by `Eq`.
    arms: Callable[[Asked, int], Intervened] | None
    needs: str = ""  # the function of the task that it asks; "": none
    writes: bool = False  # the policy decodes the step's replacement

    def asked(self, section: CounterfactualConfig) -> int:
        """P: how many arms the section asks for."""
        return getattr(section, f"{self.name}_arms")

    def possible(self, task: Task) -> bool:
        """Whether the task has what it needs."""
        return not self.needs or getattr(task, self.needs) is not None


LATENT = Intervention("latent", Family.NUISANCE, "cache", latent_arms)
SURFACE = Intervention("surface", Family.NUISANCE, "text", surface_arms, "surface")
EQUIVALENT = Intervention(
    "equivalent", Family.NUISANCE, "site", partial(replaced_arms, equivalents), writes=True
)
CORRUPT = Intervention(
    "corrupt", Family.CONTENT, "site", partial(replaced_arms, corrupted), "corrupt"
)
SWAP = Intervention("swap", Family.CONTENT, "site", partial(replaced_arms, swapped))
NUMBER = Intervention("equivariance", Family.CONTENT, "text", None, "number")

INTERVENTIONS = (LATENT, SURFACE, EQUIVALENT, CORRUPT, SWAP, NUMBER)

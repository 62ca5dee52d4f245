"""A model from its name, without a trainer: loaded, checked, on one device."""

from __future__ import annotations

import dataclasses
from functools import partial

from gccpo_jax.policy import model, weights
from gccpo_jax.policy.chat_template import Template
from gccpo_jax.policy.tokenizer import check_vocab, load_tokenizer
from gccpo_jax.runtime import sharding
from gccpo_jax.runtime.sharding import keep_compilations
from gccpo_jax.sampling.solver import Solver, make_solver
from gccpo_jax.tasks import bare_task
from gccpo_jax.tasks.base import Task
from gccpo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded policy and the task that says how its answers are read."""

    solver: Solver
    params: Params
    context: int  # tokens the model was made for


def open_model(
    name: str, task: str | Task, dtype: str | None = None, template: Template | None = None
) -> Model:
    """Loads a model by what `policy.path` may be, for a task by name or value.

    `template`: date and arguments of the chat template, those that it was trained with.

    Raises:
      UserError: no such model or task, or a tokenizer of another model.
    """
    mesh = sharding.make_mesh(1, 1, 1)
    keep_compilations()
    tokenizer = load_tokenizer(name, template)
    arch, params = weights.load(name, dtype, partial(model.shardings, mesh))
    check_vocab(arch, tokenizer)
    chosen = bare_task(task) if isinstance(task, str) else task
    tokenizer.template.check(tokenizer.backend, chosen.chat, chosen.system)
    spare = tokenizer.spare_rows(arch.vocab_size)
    solver = make_solver(model.make_policy(arch, spare=spare), chosen, tokenizer)
    return Model(solver, params, arch.max_positions)

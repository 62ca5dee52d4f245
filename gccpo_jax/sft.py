"""Supervised fine-tuning: `python -m gccpo_jax.sft --config configs/tiny_sft.py`.

Trains on the task's worked solutions, from random weights (`policy.init =
"scratch"`) or from a loaded model. Update, mesh, checkpoints, evaluation and log
are those of reinforcement learning; only the batch and the loss differ.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from gccpo_jax.config import Config
from gccpo_jax.errors import UserError
from gccpo_jax.objective.update import sft_loss
from gccpo_jax.runtime import cli, sharding, trackers
from gccpo_jax.runtime.distributed import held_by_first
from gccpo_jax.runtime.workdir import claim_workdir
from gccpo_jax.sampling.questions import Questions, TrainBatches, token_rows
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.loop import run_steps
from gccpo_jax.training.run import open_run
from gccpo_jax.training.session import open_session
from gccpo_jax.types import Prompts, UpdateBatch


def fine_tune(
    config: Config, name: str, workdir: pathlib.Path, resume: bool = False
) -> dict[str, Any]:
    """Fits the policy to demonstrations, writes everything under `workdir`, returns the summary.

    Raises:
      UserError: see `session.open_session` and `workdir.claim_workdir`; or a question without
        a worked solution, or one longer than `sampling.max_tokens`; or alarms or
        `optim.memory_gib` were asked for.
    """
    if config.log.kl_alarm or config.log.entropy_alarm:
        raise UserError(
            f"config.log.kl_alarm = {config.log.kl_alarm}, entropy_alarm = "
            f"{config.log.entropy_alarm}: demonstrations have neither; leave them at 0"
        )
    if config.optim.memory_gib:
        raise UserError(
            f"config.optim.memory_gib = {config.optim.memory_gib}: updates from demonstrations are "
            "not planned; leave it at 0 and set config.optim.micro_batch"
        )
    trackers.check(config.log)
    session, params = open_session(config)
    check_demonstrations(session.train, session.solver, config.sampling.max_tokens)
    batches = TrainBatches(session.train, config.batch_size, config.seed, config.data.shuffle)
    loss = sft_loss(session.solver.policy)
    with (
        held_by_first(claim_workdir(workdir, config, resume)),
        open_run(config, session, params, loss, workdir, batches) as run,
    ):

        def take(step: int) -> dict[str, Any]:
            items, prompts = next(batches)
            batch = demonstrations(items, prompts, session.solver, config.sampling.max_tokens)
            tokens = float(batch.mask.sum())
            batch = sharding.put_batch(session.mesh, batch)
            with run.watch("update"):
                found = run.learn(config, step, batch, items)
            kept = {k: found[k] for k in ("loss", "grad_norm", "update_norm", "skipped")}
            return kept | {"tokens": tokens}

        return run_steps(config, name, session, run, batches, workdir, take)


def response_ids(item: Item, solver: Solver) -> list[int]:
    """The demonstration of an item as token ids, ended by the end-of-sequence token."""
    return [*solver.tokenizer.encode(item.solution or ""), solver.tokenizer.eos_id]


def check_demonstrations(questions: Questions, solver: Solver, max_tokens: int) -> None:
    """Refuses questions without a solution or with one that does not fit."""
    for item in questions.items:
        if not item.solution:
            raise UserError(
                f"question {item.id} of task {solver.task.name!r} has no worked solution to learn "
                "from; give data with solutions"
            )
        length = len(response_ids(item, solver))
        if length > max_tokens:
            raise UserError(
                f"the solution of question {item.id} has {length} tokens; raise "
                f"config.sampling.max_tokens = {max_tokens}"
            )


def demonstrations(
    items: Sequence[Item], prompts: Prompts, solver: Solver, max_tokens: int
) -> UpdateBatch:
    """Prompts and their worked solutions as a batch with groups of one, NumPy arrays."""
    found = token_rows([response_ids(item, solver) for item in items], max_tokens)
    tokens, mask = (x[:, None] for x in found)
    zeros = np.zeros(tokens.shape, np.float32)
    return UpdateBatch(prompts.tokens, prompts.mask, tokens, mask, zeros, zeros, zeros)


if __name__ == "__main__":
    sys.exit(cli.main(fine_tune, __doc__, sys.argv[1:]))

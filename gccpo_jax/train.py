"""The training loop: `python -m gccpo_jax.train --config configs/quickstart.py`.

One step: sample a group for each question, read the effect of its steps, turn
it into advantages, update. Everything that can fail on the user's side fails
before the first step, and the working directory is claimed last.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import Config, ObjectiveConfig
from gccpo_jax.counterfactual.cache_edits import check_depth
from gccpo_jax.counterfactual.interventions import INTERVENTIONS
from gccpo_jax.counterfactual.transport import FAMILIES
from gccpo_jax.errors import UserError
from gccpo_jax.objective.ratios import MIN_LOGP
from gccpo_jax.objective.update import policy_loss_fn, texts
from gccpo_jax.policy import packing
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.runtime import cli, sharding, trackers
from gccpo_jax.runtime.distributed import held_by_first, to_host
from gccpo_jax.runtime.log import RunLog
from gccpo_jax.runtime.workdir import claim_workdir
from gccpo_jax.sampling import buckets
from gccpo_jax.sampling.questions import TrainBatches
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.experience import Experience, collect
from gccpo_jax.training.loop import run_steps
from gccpo_jax.training.planning.memory import fitted
from gccpo_jax.training.process_reward import open_judge, open_values
from gccpo_jax.training.rollout_files import completion, write_rollouts
from gccpo_jax.training.run import Run, open_run
from gccpo_jax.training.session import Session, is_narrow, open_session
from gccpo_jax.types import Params, Prompts, UpdateBatch


def train_and_evaluate(
    config: Config, name: str, workdir: pathlib.Path, resume: bool = False
) -> dict[str, Any]:
    """Trains a policy with `config`, writes everything under `workdir`, returns the summary.

    Raises:
      UserError: see `trackers.check`, `open_judge`, `session.open_session` and
        `workdir.claim_workdir`.
    """
    trackers.check(config.log)
    session, params = open_session(config)
    judge = open_judge(config.reward, session.mesh)
    scorer = open_values(config, session.mesh)
    check_task(config, session)
    check_model(config, session)
    fitting = fitted(config, session.arch)
    batches = TrainBatches(session.train, config.batch_size, config.seed, config.data.shuffle)
    reads = config.credit.of_steps and config.counterfactual.reader == "reference"
    keep = config.objective.beta > 0 or reads or config.credit.compression > 0
    reference = reference_of(config, params) if keep else None
    # Under the policy's own rule, so that the penalty compares two laws made alike; a token that
    # the reference's mask excludes is bounded by the clamps of `kl.estimate`.
    rule = behaviour_rule(config.sampling)
    reference_logp = jax.jit(partial(token_logp, session.solver.policy, rule=rule))
    questions = partial(next_questions, batches, session.mesh)
    loss = policy_loss_fn(config.objective, config.sampling, session.solver.policy)
    with (
        held_by_first(claim_workdir(workdir, config, resume)),
        open_run(fitting, session, params, loss, workdir, batches) as run,
    ):
        if fitting is not config:
            run.log.say(
                f"optim.memory_gib = {config.optim.memory_gib}: micro-batches of "
                f"{fitting.optim.micro_batch} of {config.batch_size} questions"
            )

        def take(step: int) -> dict[str, Any]:
            items, placed = questions()
            reader = reader_params(config, run, reference)
            experience = collect(
                session.solver, config, run.params, items, placed, step, run.watch, reader,
                more=questions, judge=judge, start=reference, scorer=scorer,
            )  # fmt: skip
            with run.watch("update"):
                given = (experience, run.params, reference, reference_logp)
                batch = learning_batch(config, session, *given)
                show = partial(show_rollouts, config, workdir, step, experience, session, run.log)
                metrics = run.learn(config, step, batch, experience.items, meanwhile=show)
            return experience.metrics | metrics

        return run_steps(config, name, session, run, batches, workdir, take)


def next_questions(batches: TrainBatches, mesh: jax.sharding.Mesh) -> tuple[list[Item], Prompts]:
    """The next batch of questions, its prompts placed on the mesh."""
    items, prompts = next(batches)
    return items, sharding.put_batch(mesh, prompts)


def show_rollouts(
    config: Config,
    workdir: pathlib.Path,
    step: int,
    experience: Experience,
    session: Session,
    log: RunLog,
) -> None:
    """Writes rollouts of the step, if they are due, and shows them."""
    every = config.log.rollouts_every
    if every and (step % every == 0 or step in (1, config.steps)):
        rows = write_rollouts(workdir, step, experience, session.solver, config)
        log.completions(step, list(map(completion, rows)))


def reference_of(config: Config, params: Params) -> Params:
    """The initial policy, which the update does not overwrite; beside adapters it is the base."""
    return params if config.policy.lora.rank else jax.tree.map(jnp.copy, params)


def reader_params(config: Config, run: Run, reference: Params | None) -> Params | None:
    """Parameters of who reads answer laws; None: the policy, from the caches of sampling."""
    match config.counterfactual.reader:
        case "reference":
            return reference
        case "ema" if run.state.average is not None:
            like = run.state.params
            return run.join(jax.tree.map(lambda x, p: x.astype(p.dtype), run.state.average, like))
    return None


def check_task(config: Config, session: Session) -> None:
    """Refuses arms that the task cannot do."""
    task = session.solver.task
    rewrites = {
        name: "config.counterfactual.transport"
        for name in FAMILIES[config.counterfactual.transport]
    }
    if config.sampling.surface_groups > 1:
        rewrites["surface"] = "config.sampling.surface_groups"
    for name, field in rewrites.items():
        if getattr(task, name) is None:
            raise UserError(f"{field}: task {task.name!r} has no {name!r} rewrites; leave it off")
    for row in INTERVENTIONS:
        arms = row.asked(config.counterfactual)
        if config.credit.of_steps and arms and not row.possible(task):
            raise UserError(
                f"config.counterfactual.{row.name}_arms = {arms}: task {task.name!r} has no "
                f"{row.name!r} rewrites; set it to 0"
            )


def check_model(config: Config, session: Session) -> None:
    """Refuses noise in a model of one layer, and a cap of what is 1 in float32."""
    if config.reads_laws and config.counterfactual.latent_arms:
        check_depth(session.arch.depth)
    responses = {"sdpo": 2, "gcpo": config.group_size + 1}.get(config.credit.kind, 0)
    seen = 2 * config.data.max_prompt_tokens + responses * config.sampling.max_tokens
    if responses and seen > session.arch.max_positions:
        raise UserError(
            f"config.credit.kind = {config.credit.kind!r}: the policy reads a question twice and "
            f"{responses} responses, {seen} tokens, and the model's context is "
            f"{session.arch.max_positions}; lower sampling.max_tokens, data.max_prompt_tokens"
            + (" or group_size" if responses > 2 else "")
        )
    cap = config.objective.sampler_cap
    if cap != ObjectiveConfig().sampler_cap and not is_narrow(config, session.arch):
        raise UserError(
            f"config.objective.sampler_cap = {cap}: the policy computes in float32, where sampling "
            "and update agree; leave it at its default, or set policy.compute = 'bfloat16'"
        )


def learning_batch(
    config: Config,
    session: Session,
    experience: Experience,
    params: Params,
    reference: Params | None,
    logp: Any,
) -> UpdateBatch:
    """What the update of `config` reads of an experience that `params` sampled.

    Args:
      reference: the initial policy, None where nothing is compared with it.
      logp: the jitted `token_logp` under the law of sampling.
    """
    batch = update_batch(experience, reference if config.objective.beta > 0 else None, logp)
    if not is_narrow(config, session.arch):
        return batch
    return sampled_apart(batch, params if config.optim.epochs > 1 else None, logp)


def compact(batch: UpdateBatch) -> UpdateBatch:
    """The batch with less padding: what is written decides its cost, not the limit.

    T is the one of `buckets.sizes` that holds the longest row, and where rows are long enough
    their responses share rows (`packing.laid`).
    """
    limit = batch.mask.shape[-1]
    if len(buckets.sizes(limit)) == 1:
        return batch
    read = to_host(batch.mask if batch.context is None else batch.mask | batch.context)
    lengths = read.shape[-1] - np.argmax(read[..., ::-1], axis=-1)
    lengths = np.where(read.any(-1), lengths, 0)
    size = buckets.fitting(limit, int(lengths.max()))
    # What has three axes is [B, G, T].
    batch = jax.tree.map(lambda x: x[..., :size] if x.ndim == 3 else x, batch)
    if (index := packing.laid(lengths, size)) is None:
        return batch
    return dataclasses.replace(batch, index=sharding.put(batch.prompt.sharding, index))


def update_batch(
    experience: Experience, reference: Params | None, reference_logp: Any
) -> UpdateBatch:
    """The experience as the update reads it; the reference is read only if there is one."""
    trained = experience.trained
    prompts, branched = trained.prompts, trained.context is not None
    batch = UpdateBatch(
        prompt=prompts.tokens,
        prompt_mask=prompts.mask,
        tokens=trained.tokens,
        mask=trained.mask,
        behaviour_logp=trained.logp,
        reference_logp=jnp.zeros_like(trained.logp),
        advantage=trained.advantage,
        reward=None if branched else experience.reward,
        context=trained.context,
        anchor_logp=experience.anchor,
    )
    batch = compact(batch)
    if reference is None:
        return batch
    return dataclasses.replace(batch, reference_logp=reference_logp(reference, *texts(batch)))


def sampled_apart(batch: UpdateBatch, params: Params | None, logp: Any) -> UpdateBatch:
    """The batch with the sampler's log-probabilities beside those of the update's kind.

    `params`: what sampled, to be read again for updates after the first; None: there are none.
    A token that the law excludes when it is read again keeps what sampling recorded.
    """
    old = batch.behaviour_logp
    if params is not None:
        read = logp(params, *texts(batch))
        old = jnp.where(read > MIN_LOGP, read, old)
    fresh = jnp.ones_like(batch.prompt_mask[:, 0])
    return dataclasses.replace(
        batch, behaviour_logp=old, sampler_logp=batch.behaviour_logp, fresh=fresh
    )


if __name__ == "__main__":
    sys.exit(cli.main(train_and_evaluate, __doc__, sys.argv[1:]))

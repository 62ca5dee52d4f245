"""What training from rewards and from demonstrations share: state, update, log, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import Config
from gccpo_jax.errors import UserError
from gccpo_jax.objective.update import (
    LossFn,
    keeps_average,
    make_update,
    optimizer_of,
    update_is_finite,
)
from gccpo_jax.policy import weights
from gccpo_jax.policy.lora import fingerprint
from gccpo_jax.policy.peft import save_peft
from gccpo_jax.runtime import sharding
from gccpo_jax.runtime.checkpoints import ACCURACY, Checkpoints, complete, set_damaged_aside
from gccpo_jax.runtime.cli import typed
from gccpo_jax.runtime.distributed import alone, broadcast_json, largest, to_host
from gccpo_jax.runtime.log import RunLog, open_log
from gccpo_jax.runtime.signals import Preempted, Signals
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.runtime.workdir import COMMAND, write_json, write_text, writing
from gccpo_jax.sampling.answers import UNSCORABLE, of_all
from gccpo_jax.sampling.questions import TrainBatches
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.adapters import parted
from gccpo_jax.training.bad_updates import explain_skip
from gccpo_jax.training.evaluate import percent
from gccpo_jax.training.metrics import alarms
from gccpo_jax.training.session import Session
from gccpo_jax.types import Params, TrainState, UpdateBatch


@dataclasses.dataclass
class Run:
    """The moving parts of a run: state, update, log, checkpoints."""

    state: TrainState
    update: Any
    log: RunLog
    watch: Stopwatch
    checkpoints: Checkpoints
    signals: Signals
    first: int  # steps completed when it was opened
    skipped: int  # updates in a row that were not finite, up to now
    explain: Callable[[int, TrainState, UpdateBatch, Sequence[Item]], pathlib.Path]
    join: Callable[[Params], Params] = lambda own: own  # what the policy takes, of what trains
    base: str = ""  # a digest of the parameters that do not train; "": all do

    @property
    def params(self) -> Params:
        """The policy's parameters as they are now."""
        return self.join(self.state.params)

    def learn(
        self,
        config: Config,
        step: int,
        batch: UpdateBatch,
        items: Sequence[Item],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """The updates of a step; metrics of the last one, and how many were `skipped`.

        Args:
          meanwhile: work of the host that is done while the device updates.
        Raises:
          UserError: `optim.max_skipped` in a row were not finite.
        """
        flags = []
        for _ in range(config.optim.epochs):
            self.state, metrics = self.update(self.state, batch)
            flags.append(metrics["skipped"])
            if batch.fresh is not None:
                batch = dataclasses.replace(batch, fresh=jnp.zeros_like(batch.fresh))
        meanwhile()
        found = {key: float(to_host(value)) for key, value in metrics.items()}
        if not config.objective.beta:  # nothing is compared with the reference
            found.pop("kl", None)
        found["skipped"] = float(sum(map(float, flags)))
        if not found["skipped"]:
            self.skipped = 0
            return found
        file = self.explain(step, self.state, batch, items)
        self.log.say(f"step {step}: {found['skipped']:.0f} updates skipped, not finite; see {file}")
        for flag in flags:
            self.skipped = self.skipped + 1 if float(flag) else 0
            if self.skipped == config.optim.max_skipped:
                raise UserError(
                    f"config.optim.max_skipped = {self.skipped}: so many updates in a row were "
                    f"not finite; see {file}, and lower optim.lr in a new --workdir"
                )
        return found

    def finish_step(
        self, config: Config, step: int, metrics: dict[str, Any], batches: TrainBatches
    ) -> None:
        """Logs a step, with its alarms, and saves when it is time.

        Raises:
          Preempted: a signal asked for the end; the step is saved.
        """
        warnings = alarms(config.log, step, metrics, config.counterfactual.min_gate)
        if config.log.kl_alarm or config.log.entropy_alarm or "reader_gate" in metrics:
            metrics = {**metrics, "alarms": float(len(warnings))}
        self.log.step(step, metrics, headline(metrics))
        for line in warnings:
            self.log.say(line)
        every, received = config.checkpoint.every, largest(self.signals.received)
        accuracy = of_all(metrics, ACCURACY) if config.checkpoint.keep_best else None
        due = (every and step % every == 0) or accuracy is not None
        if received or step == config.steps or due:
            position = {**batches.get_state(), "skipped": self.skipped, "base": self.base}
            self.checkpoints.save(step, self.state, position, accuracy)
        if received:
            raise Preempted(received, step)

    def finish(
        self, config: Config, session: Session, workdir: pathlib.Path, summary: dict
    ) -> dict:
        """Waits for checkpoints, writes the policy and the summary, says where things are."""
        self.checkpoints.close()
        with writing("the policy and the summary", workdir):
            weights.save(workdir / "policy", session.arch, self.params, session.solver.tokenizer)
            if config.policy.lora.rank:
                section, source = config.policy.lora, config.policy.path
                save_peft(workdir / "adapter", session.arch, self.state.params, section, source)
            broadcast_json(lambda: write_text(workdir / COMMAND, typed() + "\n"))
            broadcast_json(lambda: write_json(workdir / "summary.json", summary))
        for line in in_a_table(summary, session.solver.task.splits_say):
            self.log.say(line)
        if config.log.note:
            self.log.say(config.log.note)
        self.log.say(f"summary, metrics, rollouts and policy: {workdir}")
        return summary


def in_a_table(summary: dict, say: Mapping[str, str]) -> list[str]:
    """Accuracy of every split before and after, those that `say` has words for at the end."""
    lines = {}
    for split, value in summary["after"].items():
        before, after = percent(summary["before"].get(split)), percent(value)
        if "/" not in split and (value or not split.endswith(UNSCORABLE)):
            lines[split] = f"{split:>20}  {before:>6} -> {after:>6}  {say.get(split, '')}".rstrip()
    return [lines[split] for split in sorted(lines, key=lambda split: split in say)]


@contextlib.contextmanager
def open_run(
    config: Config,
    session: Session,
    params: Params,
    loss: LossFn,
    workdir: pathlib.Path,
    batches: TrainBatches,
) -> Iterator[Run]:
    """Optimizer, jitted update, log and checkpoints; restored if there is a checkpoint.

    However the run ends, saves under way are waited for and everything is closed.
    """
    averaged = keeps_average(config.credit, config.counterfactual)
    parts = parted(config, session.mesh, session.arch, params)
    own, places = parts.own, parts.shardings
    optimizer = optimizer_of(config.optim, config.steps)
    abstract = jax.eval_shape(optimizer.init, own)
    shardings = TrainState(
        params=places,
        opt_state=sharding.state_shardings(session.mesh, abstract, places),
        step=sharding.replicated(session.mesh),
        average=places if averaged else None,
    )
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(own)
    step = sharding.put(shardings.step, np.int32(0))
    average = None
    if averaged:
        average = jax.tree.map(lambda x: x.astype(jnp.float32) + 0, own)
    state = TrainState(own, opt_state, step, average)
    update = make_update(
        loss,
        optimizer,
        micro_batch=micro_batch(config),
        ema=config.counterfactual.ema,
        shardings=shardings,
        join=parts.join,
    )
    base = fingerprint(parts.base) if parts.base is not None else ""
    saved = workdir / "checkpoints"
    damaged = broadcast_json(lambda: set_damaged_aside(saved))
    try:
        with contextlib.ExitStack() as held:
            signals = held.enter_context(Signals())
            checkpoints = Checkpoints(saved, config.checkpoint.keep, config.checkpoint.keep_best)
            held.push(lambda kind, *_: checkpoints.close() if _in_order(kind) else None)
            first, position = checkpoints.latest or 0, {}
            if first:
                state, position = checkpoints.restore(first, state)
                check_base(position, base, config)
                batches.set_state(position)
            log = open_log(workdir, config.steps, config.log, resume_step=first)
            held.callback(log.close)
            for line in [*damaged, *([f"resumed after step {first}"] if first else [])]:
                log.say(line)
            is_good = partial(
                jax.jit(partial(update_is_finite, loss, join=parts.join)), base=parts.base
            )
            explain = partial(explain_skip, is_good, session, workdir / "bad")
            yield Run(
                state,
                partial(update, base=parts.base),
                log,
                Stopwatch(),
                checkpoints,
                signals,
                first,
                position.get("skipped", 0),
                explain,
                partial(parts.join, parts.base),
                base,
            )
    except UserError as error:
        raise UserError(f"{error} (last good checkpoint: {last_good(saved)})") from error


def check_base(position: Mapping[str, Any], base: str, config: Config) -> None:
    """Refuses to go on from adapters of another model than the one that was loaded.

    Raises:
      UserError: the digest saved with the checkpoint is another.
    """
    if (saved := position.get("base", "")) != base:
        raise UserError(
            f"config.policy.path = {config.policy.path!r}: not the model that the checkpoint's "
            f"adapters were trained beside (digest {base}, then {saved}); restore its files"
        )


def micro_batch(config: Config) -> int:
    """Rows of prompts in memory at once in the update: questions in all their wordings."""
    return (config.optim.micro_batch or config.batch_size) * config.sampling.surface_groups


def _in_order(kind: type[BaseException] | None) -> bool:
    """Whether all processes end: one that fails must not wait for the others."""
    return alone() or kind is None or issubclass(kind, Preempted)


def last_good(directory: pathlib.Path) -> str:
    """Where a run that ended goes on from."""
    found = complete(directory)
    return str(found[-1]) if found else "none, it starts anew"


def headline(metrics: dict[str, Any]) -> str:
    """The few numbers worth watching."""
    shown = {"loss": ".4f", "accuracy": ".2f", "D_abs": ".2f", "R": ".2f", "kl": ".4f"}
    shown |= {"length": ".0f", "step_seconds": ".2f"}
    if metrics.get("unscorable"):  # beside the accuracy that it is not in
        shown = {"loss": ".4f", "accuracy": ".2f", "unscorable": ".1%"} | shown
    return "  ".join(
        f"{key.removesuffix('_seconds')} "
        + ("--" if metrics[key] is None else f"{metrics[key]:{form}}")
        for key, form in shown.items()
        if key in metrics
    )

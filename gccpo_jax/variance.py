"""How noisy the policy gradient of each preset is, without training.

    python -m gccpo_jax.variance --config FILE[:PRESET] [--presets A0,A7,A8] [--batches K]
                                 [--tapes R] [--out docs/results] [--config.<field>=<value> ...]

K batches of questions, each sampled R times from the config's policy, go through what a training
step does up to its gradient: sampling, reading, credit, loss. All presets see the same questions
under the same keys, so those that sample alike credit the same trajectories. Gradients of
batches of other questions say what they have in common and what is noise
(`analysis/gradients.py`); all K R gradients of a preset are in memory at once. Writes
variance.json, variance.md and variance.png.

Exit codes: 0; 2 for a mistake of the user's; 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.analysis.gradient_page import count, summarise, tables
from gccpo_jax.analysis.gradients import FEWEST, Measured
from gccpo_jax.analysis.suites.tables import plot_bars, write
from gccpo_jax.config import Config, freeze
from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.masked import masked_mean
from gccpo_jax.objective.update import gradient, policy_loss_fn
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.runtime.cli import check_ranges, command_parser, load_config, overrides, set_field
from gccpo_jax.runtime.progress import Bar
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.runtime.workdir import output_path
from gccpo_jax.sampling.questions import TrainBatches
from gccpo_jax.train import check_model, check_task, learning_batch, next_questions
from gccpo_jax.training.experience import collect
from gccpo_jax.training.planning.memory import fitted
from gccpo_jax.training.presets import apply
from gccpo_jax.training.process_reward import open_judge, open_values
from gccpo_jax.training.run import micro_batch
from gccpo_jax.training.session import Session, open_session
from gccpo_jax.types import Array, Params, UpdateBatch


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: run(argv))


def run(argv: Sequence[str]) -> None:
    """Measures every preset and writes the page."""
    asked, rest = _parse(argv)
    out = output_path(asked.out)
    configs = configs_of(asked.config, asked.presets, overrides(rest))
    started = time.monotonic()
    session, params = open_session(next(iter(configs.values())))
    for config in configs.values():
        check_task(config, session)
        check_model(config, session)
    measured = {
        name: measure(name, config, session, params, asked.batches, asked.tapes)
        for name, config in configs.items()
    }
    summary = summarise(measured) | {"batches": asked.batches, "tapes": asked.tapes}
    first = next(iter(configs.values()))
    command = shlex.join(["python", "-m", "gccpo_jax.variance", *argv])
    intro = (
        f"`{command}`: {asked.batches} batches of {first.batch_size} questions, each sampled "
        f"{asked.tapes} times, from `{first.policy.path}` as it is. It took "
        f"{(time.monotonic() - started) / 60:.1f} minutes."
    )
    title = "Signal and noise of the policy gradient"
    paths = write(out, "variance", title, intro, tables(summary), summary)
    plot = out / "variance.png"
    axis = f"cosine of two gradients of {count(summary['matched_tokens'])} forward tokens each"
    bars = {name: found["matched"] for name, found in summary["presets"].items()}
    plot_bars(plot, title, axis, bars)
    print("written: " + ", ".join(map(str, [*paths, plot])))


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = command_parser("variance", __doc__)
    parser.add_argument("--config", required=True, metavar="FILE[:PRESET]", help="config file")
    parser.add_argument("--presets", default="", help="names with commas between; none: as it is")
    parser.add_argument("--batches", type=int, default=8, help="K, batches of questions (8)")
    parser.add_argument("--tapes", type=int, default=2, help="R, samplings of each batch (2)")
    parser.add_argument("--out", default="docs/results", help="where the page goes (docs/results)")
    found, rest = parser.parse_known_args(argv)
    check_ranges(found, {"batches": FEWEST, "tapes": 1})
    return found, rest


def configs_of(source: str, presets: str, changes: Sequence[tuple[str, str]]) -> dict[str, Config]:
    """The config of each preset over the one that a file makes, with fields changed after it.

    Raises:
      UserError: a preset twice or of no such name, or a configuration that cannot be measured.
    """
    base, name = load_config(source)
    names = presets.split(",") if presets else [name]
    if len(set(names)) < len(names):
        raise UserError(f"--presets {presets}: a name stands there twice")
    found = {}
    for name in names:
        config = load_config(source)[0] if presets else base
        if presets:
            apply(config, name)
        for path, text in changes:
            set_field(config, path, text)
        found[name] = freeze(config)
        if found[name].sampling.dynamic:
            raise UserError(
                f"--presets {name}: sampling.dynamic chooses questions by their outcomes, so they "
                "are not those of other presets; add --config.sampling.dynamic=0"
            )
        if rank := found[name].policy.lora.rank:
            raise UserError(
                f"config.policy.lora.rank = {rank}: the gradient that is measured is that of all "
                "parameters; set it to 0"
            )
    return found


def measure(
    name: str, config: Config, session: Session, params: Params, batches: int, tapes: int
) -> Measured:
    """The gradient of every batch, as the first update of a run would have it.

    Raises:
      UserError: a gradient is not finite.
    """
    gradients_of = _gradients(fitted(config, session.arch), session)
    whole, trajectory, tokens = [], [], []
    with Bar(name, batches * tapes) as bar:
        for batch, steps in _batches(config, session, params, batches, tapes):
            found = gradients_of(params, batch)
            parts = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in found]
            if not all(np.isfinite(part).all() for part in parts):
                raise UserError(f"--presets {name}: a gradient is not finite; lower optim.lr")
            whole.append(parts[0])
            trajectory.append(parts[-1])
            tokens.append(steps)
            bar.advance(1)

    def by_batch(rows: list[np.ndarray]) -> np.ndarray:
        return np.stack(rows).reshape(batches, tapes, -1)

    return Measured(by_batch(whole), by_batch(trajectory), float(np.mean(tokens)))


def _batches(
    config: Config, session: Session, params: Params, batches: int, tapes: int
) -> Iterator[tuple[UpdateBatch, float]]:
    """What the update reads of each batch under each tape, and its forward tokens."""
    judge = open_judge(config.reward, session.mesh)
    scorer = open_values(config, session.mesh)
    logp = jax.jit(partial(token_logp, session.solver.policy, rule=behaviour_rule(config.sampling)))
    questions = TrainBatches(session.train, config.batch_size, config.seed, config.data.shuffle)
    for number in range(batches):
        items, prompts = next_questions(questions, session.mesh)
        for tape in range(tapes):
            step = 1 + number + tape * batches  # every draw is keyed by it
            given = (session.solver, config, params, items, prompts, step, Stopwatch())
            experience = collect(*given, judge=judge, scorer=scorer)
            batch = learning_batch(config, session, experience, params, params, logp)
            yield batch, experience.metrics["forward_tokens"]


def _gradients(config: Config, session: Session) -> Callable[[Params, UpdateBatch], list[Any]]:
    """The gradient of a batch; of step credit also that of each trajectory's mean advantage.

    At the first update the gradient is linear in the advantage, so the rest is the steps'.
    """
    loss = policy_loss_fn(config.objective, config.sampling, session.solver.policy)
    whole = jax.jit(lambda params, batch: gradient(loss, params, batch, micro_batch(config))[0])

    def found(params: Params, batch: UpdateBatch) -> list[Any]:
        if not config.credit.of_steps:
            return [whole(params, batch)]
        level = dataclasses.replace(batch, advantage=trajectory_mean(batch.advantage, batch.mask))
        return [whole(params, batch), whole(params, level)]

    return found


@jax.jit
def trajectory_mean(advantage: Array, mask: Array) -> Array:
    """Each trajectory's mean advantage on all its tokens that train, [B, G, T]."""
    mean = masked_mean(advantage, mask, axis=-1)
    return jnp.where(mask, mean[..., None], 0.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a limit costs that nothing reaches: CPU seconds of each stage of a step.

Command   python benchmarks/lengths.py [--shape tiny] [--limits 256 1024 4096] [--whole 256 1024]
              [--rounds 3]

The same rollouts (same questions, same noise: the tokens are compared) under each limit of
`--limits`, and under each of `--whole` with buffers as long as the limit. One line of JSON: the
length of the longest rollout, median CPU seconds per stage under the first limit, and what the
other limits cost as a ratio to it, for both, with the exponent of a stage's cost in the limit
between the first and the last. Every round runs all limits, one after the other; a first one
compiles and does not count. Evaluation is greedy on `tiny`. `smollm2` (needs the extra `smollm2`)
is that model on written word problems, made to end with probability 1 / 24 after any token of a
response (`ending.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from contest import ONE_THREAD
from ending import ending

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
QUESTIONS, GROUP, HELD_OUT = 4, 8, 32
HAZARD = 1 / 24


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--shape", choices=("tiny", "smollm2"), default="tiny")
    options.add_argument("--limits", type=int, nargs="+", default=[256, 1024, 4096])
    options.add_argument("--whole", type=int, nargs="*", default=[256, 1024])
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    os.environ.update(ONE_THREAD)
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(measure(asked, pathlib.Path(directory) / "questions.jsonl")))


def tiny() -> tuple[Any, int]:
    """A config, and how many questions are held out."""
    from gccpo_jax.runtime.cli import load_config

    config = load_config(str(CONFIGS / "quickstart.py"))[0]
    config.batch_size, config.group_size, config.optim.micro_batch = QUESTIONS, GROUP, QUESTIONS
    config.eval.questions, config.eval.ood_questions = HELD_OUT, 0
    return config, HELD_OUT


def smollm2(data: pathlib.Path) -> tuple[Any, int]:
    """The same of a real model, on questions that are written to `data`."""
    from step import questions

    from gccpo_jax.runtime.cli import load_config

    questions(data)
    config = load_config(str(CONFIGS / "smollm2_gsm8k_cpu.py"))[0]
    config.data.path, config.task.options.held_out = str(data), 4
    config.sampling.temperature = 1.0  # a lower one would change the chance to end
    config.batch_size, config.group_size, config.data.max_prompt_tokens = 2, 4, 128
    return config, 4


def measure(asked: argparse.Namespace, data: pathlib.Path) -> dict[str, Any]:
    """The line that is printed."""
    import jax
    import numpy as np

    from gccpo_jax import train
    from gccpo_jax.config import freeze
    from gccpo_jax.objective.update import make_update, optimizer_of, policy_loss_fn
    from gccpo_jax.policy.token_law import behaviour_rule
    from gccpo_jax.runtime.timing import Stopwatch
    from gccpo_jax.sampling import buckets
    from gccpo_jax.sampling.answers import GREEDY, respond
    from gccpo_jax.sampling.questions import TrainBatches
    from gccpo_jax.training.experience import collect
    from gccpo_jax.training.session import open_session
    from gccpo_jax.types import TrainState

    class CpuWatch(Stopwatch):
        """Stages in seconds of CPU time: other work on the machine does not count."""

        @contextlib.contextmanager
        def __call__(self, stage: str) -> Iterator[None]:
            start = time.process_time()
            try:
                yield
            finally:
                spent = time.process_time() - start
                self._stages[stage] = self._stages.get(stage, 0.0) + spent

    config, held_out = tiny() if asked.shape == "tiny" else smollm2(data)
    base = freeze(config)
    session, params = open_session(base)
    solver = session.solver
    if asked.shape == "smollm2":
        ends = ending(solver.policy, stop=solver.tokenizer.stop_ids[0], hazard=HAZARD)
        solver = dataclasses.replace(solver, policy=ends)
    optimizer = optimizer_of(base.optim, base.steps)

    def under(limit: int) -> Callable[[], tuple[dict[str, float], np.ndarray]]:
        """A round under a limit: seconds of each stage, and the tokens."""
        sampling = dataclasses.replace(base.sampling, max_tokens=limit)
        config = dataclasses.replace(base, sampling=sampling)
        loss = policy_loss_fn(config.objective, sampling, solver.policy)
        update = make_update(loss, optimizer, micro_batch=base.optim.micro_batch)
        rule = GREEDY if asked.shape == "tiny" else behaviour_rule(sampling)
        how = {"rule": rule, "draws": 1, "seed": 0, "batch": held_out, "max_tokens": limit}

        def run() -> tuple[dict[str, float], np.ndarray]:
            watch = CpuWatch()
            batches = TrainBatches(session.train, base.batch_size, config.seed)
            items, prompts = train.next_questions(batches, session.mesh)
            found = collect(solver, config, params, items, prompts, 1, watch)
            copy = jax.tree.map(lambda x: x + 0, params)
            state = TrainState(copy, optimizer.init(copy), jax.numpy.int32(0))
            with watch("update"):
                batch = train.update_batch(found, None, None)
                jax.block_until_ready(update(state, batch))
            with watch("evaluate"):
                respond(solver, params, session.evaluation["id"], **how)
            lengths = np.asarray(found.rollout.length)
            return watch.lap(), np.asarray(found.rollout.tokens)[..., : lengths.max()]

        return run

    def table(limits: list[int]) -> dict[str, Any]:
        """Seconds under the first limit, ratios to them under the others; all in each round."""
        runs = {limit: under(limit) for limit in limits}
        tokens = [run()[1] for run in runs.values()]  # compiles
        for others in tokens[1:]:
            np.testing.assert_array_equal(tokens[0], others)
        rounds = [{limit: run()[0] for limit, run in runs.items()} for _ in range(asked.rounds)]
        jax.clear_caches()
        seconds = {
            limit: {
                name.removesuffix("_seconds"): statistics.median(row[limit][name] for row in rounds)
                for name in rounds[0][limit]
            }
            for limit in limits
        }
        first = {name: s for name, s in seconds[limits[0]].items() if s > 0.005}
        found: dict[str, Any] = {
            "longest": tokens[0].shape[-1],
            f"seconds at {limits[0]}": {name: round(s, 4) for name, s in first.items()},
        }
        for limit in limits[1:]:
            ratios = {name: seconds[limit][name] / s for name, s in first.items()}
            found[f"{limit} / {limits[0]}"] = {name: round(r, 2) for name, r in ratios.items()}
            size = math.log(limit / limits[0])
            found["exponents"] = {name: round(math.log(r) / size, 2) for name, r in ratios.items()}
        return found

    line = {"shape": asked.shape, "buckets": table(asked.limits)}
    if asked.whole:
        buckets.LEAST = max(asked.whole)
        line["buffers of the limit"] = table(asked.whole)
    return line


if __name__ == "__main__":
    main()

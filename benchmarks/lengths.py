"""What a limit costs that nothing reaches: CPU seconds of each stage of a step, tiny policy.

Command   python benchmarks/lengths.py [--limits 256 1024 4096] [--whole 256 1024] [--rounds 3]

The same rollouts (same questions, same noise: the tokens are compared) under each limit of
`--limits`, and under each of `--whole` with buffers as long as the limit. One line of JSON: the
length of the longest rollout, median CPU seconds per stage under the first limit, and what the
other limits cost as a ratio to it, for both. The first round of a limit compiles and does not
count. Evaluation is greedy sampling.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

from contest import ONE_THREAD

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "quickstart.py"
QUESTIONS, GROUP, HELD_OUT = 4, 8, 32


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--limits", type=int, nargs="+", default=[256, 1024, 4096])
    options.add_argument("--whole", type=int, nargs="*", default=[256, 1024])
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    os.environ.update(ONE_THREAD)
    print(json.dumps(measure(asked.limits, asked.whole, asked.rounds)))


def measure(limits: list[int], whole: list[int], rounds: int) -> dict[str, Any]:
    """The line that is printed."""
    import jax
    import numpy as np

    from gccpo_jax import train
    from gccpo_jax.config import freeze
    from gccpo_jax.objective.update import make_update, optimizer_of, policy_loss_fn
    from gccpo_jax.runtime.cli import load_config
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

    asked = load_config(str(CONFIG))[0]
    asked.batch_size, asked.group_size, asked.optim.micro_batch = QUESTIONS, GROUP, QUESTIONS
    asked.eval.questions, asked.eval.ood_questions = HELD_OUT, 0
    base = freeze(asked)
    session, params = open_session(base)
    optimizer = optimizer_of(base.optim, base.steps)

    def under(limit: int) -> tuple[dict[str, float], np.ndarray]:
        sampling = dataclasses.replace(base.sampling, max_tokens=limit)
        config = dataclasses.replace(base, sampling=sampling)
        loss = policy_loss_fn(config.objective, sampling, session.solver.policy)
        update = make_update(loss, optimizer, micro_batch=QUESTIONS)
        how = {"rule": GREEDY, "draws": 1, "seed": 0, "batch": HELD_OUT, "max_tokens": limit}
        laps = []
        for _ in range(rounds + 1):
            watch = CpuWatch()
            batches = TrainBatches(session.train, QUESTIONS, config.seed)
            items, prompts = train.next_questions(batches, session.mesh)
            found = collect(session.solver, config, params, items, prompts, 1, watch)
            copy = jax.tree.map(lambda x: x + 0, params)
            state = TrainState(copy, optimizer.init(copy), jax.numpy.int32(0))
            with watch("update"):
                batch = train.update_batch(found, None, None)
                jax.block_until_ready(update(state, batch))
            with watch("evaluate"):
                respond(session.solver, params, session.evaluation["id"], **how)
            laps.append(watch.lap())
        jax.clear_caches()
        stages = {
            name.removesuffix("_seconds"): statistics.median(lap[name] for lap in laps[1:])
            for name in laps[0]
        }
        lengths = np.asarray(found.rollout.length)
        return stages, np.asarray(found.rollout.tokens)[..., : lengths.max()]

    def table(limits: list[int]) -> dict[str, Any]:
        """Seconds under the first limit, ratios to them under the others."""
        first, tokens = under(limits[0])
        first = {name: seconds for name, seconds in first.items() if seconds > 0.005}
        found: dict[str, Any] = {
            "longest": tokens.shape[-1],
            f"seconds at {limits[0]}": {name: round(s, 4) for name, s in first.items()},
        }
        for limit in limits[1:]:
            stages, others = under(limit)
            np.testing.assert_array_equal(tokens, others)
            ratios = {name: round(stages[name] / seconds, 2) for name, seconds in first.items()}
            found[f"{limit} / {limits[0]}"] = ratios
        return found

    line = {"buckets": table(limits)}
    if whole:
        buckets.LEAST = max(whole)
        line["buffers of the limit"] = table(whole)
    return line


if __name__ == "__main__":
    main()

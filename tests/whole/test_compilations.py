"""A run compiles what it needs in its first steps and never again, whatever lengths it meets.

Arms that replace a step compile once more for each power of two that the longest step reaches,
and the update once for each of `buckets.sizes`: of rollouts up to 40 tokens there are two. In rows
of 128 tokens and more it compiles once for each of `packing.rows` that a batch is laid into.
"""

import jax
import pytest

from gccpo_jax import train
from gccpo_jax.policy.packing import rows
from gccpo_jax.training.run import Run
from tests.helpers.runs import small

COMPILED = "/jax/core/compile/backend_compile_duration"
STEPS = 20
GROUP = small().group_size
WIDTHS = (8, 16, 32, 64)  # of replaced steps


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, growth",
    [
        ({}, 0),
        ({"counterfactual__from_departure": True, "counterfactual__known_rest": True}, 0),
        ({
            "credit__kind": "selective", "counterfactual__equivalent_arms": 2,
            "counterfactual__corrupt_arms": 1, "counterfactual__swap_arms": 1,
            "counterfactual__equivariance_arms": 1, "counterfactual__reader": "ema",
        }, len(WIDTHS)),
        ({
            "credit__kind": "outcome", "reward__process": "gccpo_jax.tasks.arithmetic:score",
            "sampling__max_tokens": 136,
        }, len(rows(GROUP))),
    ],
    ids=["default", "fewer branch tokens", "every arm", "outcome and judge"],
)  # fmt: skip
def test_nothing_is_compiled_once_it_is_warm(tmp_path, monkeypatch, changes, growth):
    compiled, after, lengths = [], [], set()

    def listen(event, duration, **_):
        if event == COMPILED:
            compiled.append(duration)

    finish = Run.finish_step

    def count(self, config, step, metrics, batches):
        finish(self, config, step, metrics, batches)
        after.append(len(compiled))
        lengths.add(metrics["length"])

    monkeypatch.setattr(Run, "finish_step", count)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        config = small(steps=STEPS, checkpoint__every=0, log__rollouts_every=0, **changes)
        train.train_and_evaluate(config, "compilations", tmp_path / "run")
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(after) == STEPS and len(lengths) > 5, "the lengths should vary"
    assert after[0] > 0, "the listener should hear the first step"
    # Steps after the second that compiled anything; the last one also saves the policy.
    grew = len(set(after[1:-1])) - 1
    assert grew <= growth, f"compiled by the end of each step: {after}"

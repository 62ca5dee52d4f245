"""The gate of the scored reader: which answers it counts, and that answers may be the same."""

import dataclasses
import fractions
import types

import numpy as np
import pytest

from gccpo_jax.counterfactual.candidates import first_same
from gccpo_jax.counterfactual.gate import reader_metrics
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

TASK = dataclasses.replace(
    chain(ChainConfig(train=1, id=1, ood=1, max_operations=2)),
    extract=lambda text: text.partition("#### ")[2] or None,
    same=lambda a, b: fractions.Fraction(a) == fractions.Fraction(b),
)


def gate(answers, emitted, best, stopped=None):
    """`reader_gate` of one question whose reader has all mass on row `best` of each law."""
    texts = np.array([[f"#### {x}" if x else "nothing" for x in emitted]], object)
    size = len(emitted)
    law = np.zeros((1, size, 2, len(answers) + 1))
    law[0, :, 0, -1] = 1.0  # of the step before: not looked at
    law[0, np.arange(size), 1, best] = 1.0
    stopped = np.ones((1, size), bool) if stopped is None else np.array([stopped])
    rollout = types.SimpleNamespace(stopped=stopped)
    traces = types.SimpleNamespace(items=TASK.splits["train"], texts=texts, rollout=rollout)
    spans = types.SimpleNamespace(mask=np.ones((1, size, 2), bool))
    counted_as = [[first_same(TASK, answers[: n + 1]) for n in range(len(answers))]]
    candidates = types.SimpleNamespace(counted_as=np.array(counted_as))
    return reader_metrics(TASK, traces, spans, law, candidates, [answers])["reader_gate"]


@pytest.mark.parametrize(
    ("answers", "emitted", "best", "expected"),
    [
        (["1/2", "0.5", "3"], ["0.5"] * 4, [0] * 4, 1.0),  # a law counts 0.5 in row 0
        (["1/2", "3"], ["0.5"] * 4, [0] * 4, 1.0),  # its spelling found no row
        (["1/2", "0.5", "3"], ["0.5", "3", "1/2", "0.5"], [0, 2, 2, 2], 0.5),
        (["", "3", "3.0"], ["3.0", "7", None], [1, 0, 0], 1.0),  # 7: no candidate; None: no answer
        (["1/2"], ["9", "9"], [0, 0], 0.0),  # nothing was compared
    ],
)
def test_answers_that_are_the_same_agree(answers, emitted, best, expected):
    assert gate(answers, emitted, best) == expected


def test_unfinished_trajectories_are_not_counted():
    assert gate(["1", "2"], ["1", "2"], [0, 0], stopped=[True, False]) == 1.0

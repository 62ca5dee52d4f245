"""Accuracy: of what was scored, beside the share that was not."""

from types import SimpleNamespace

import numpy as np
import pytest

from gccpo_jax.sampling.answers import Accuracy, scored_accuracy
from gccpo_jax.training.evaluate import in_words
from gccpo_jax.training.metrics import sampling_metrics
from gccpo_jax.training.run import headline

NAN = np.nan


@pytest.mark.parametrize(
    "scores, mean, unscorable",
    [
        ([[1.0, 0.0], [0.5, 0.5]], 0.5, 0.0),
        ([[1.0, NAN], [NAN, NAN]], 1.0, 0.75),
        ([[NAN, NAN]], None, 1.0),
    ],
)
def test_what_cannot_be_scored_is_left_out_and_counted(scores, mean, unscorable):
    found = scored_accuracy(np.array(scores, np.float32))
    assert found == Accuracy(mean, unscorable)
    assert found.named("id") == {"id": mean, "id_unscorable": unscorable}


def sampled(outcome):
    outcome = np.array(outcome, np.float32)
    rollout = SimpleNamespace(entropy=np.ones(outcome.shape), stopped=np.ones(outcome.shape))
    return SimpleNamespace(
        outcome=outcome,
        scorable=~np.isnan(outcome),
        rollout=rollout,
        lengths=np.ones(outcome.shape),
    )


def test_metrics_and_progress_say_what_was_not_scored():
    right = sampling_metrics(sampled([[1, NAN, NAN, NAN]]))
    assert (right["accuracy"], right["unscorable"]) == (1.0, 0.75)
    nothing = sampling_metrics(sampled([[NAN, NAN]]))
    assert (nothing["accuracy"], nothing["unscorable"]) == (None, 1.0)
    assert headline({"loss": 0.5, **right}).startswith(
        "loss 0.5000  accuracy 1.00  unscorable 75.0%"
    )
    assert "accuracy --  unscorable 100.0%" in headline(nothing)
    assert "unscorable" not in headline(sampling_metrics(sampled([[1, 0]])))
    assert in_words({"id": 1.0, "id_unscorable": 0.0}) == "id 100.0%"

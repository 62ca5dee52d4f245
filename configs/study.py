"""The controlled study: does the method generalise, and is it the causal part that does it?

    search     few seeds and many arms, to choose; what is chosen is written down here
    confirm    fresh seeds, once

Every seed has a policy of its own with two ways to an answer (`two_ways_sft.py`), and all its
arms start from it.

Command   python -m gccpo_jax.study --config configs/study.py:search --jobs 2
          python -m gccpo_jax.study --config configs/study.py:confirm --jobs 2
          python -m gccpo_jax.study --tables runs/study-confirm/results.jsonl
"""

from gccpo_jax.study.plan import default

ARMS = {  # what another name trains: a preset, and fields that it changes
    "A0": "A0",
    "A2": "A2",
    "A7": "A7",
    "A8": "A8",
    "A9": "A9",
    "A10": "A10",
}


def get_config(phase="search"):
    study = default()
    study.base = "configs/two_ways.py"
    study.sft = "configs/two_ways_sft.py"
    study.arms = ARMS
    study.method = "A7"
    study.rivals = ("A0", "A2", "A8")
    study.pairs = ("A9-A0", "A10-A0")
    study.seeds = (1, 2)
    study.updates = 60
    study.evaluate_every = 20
    study.changes = "checkpoint.every=20 log.rollouts_every=0 log.tensorboard=false"
    if phase == "confirm":
        study.confirms = True
        study.seeds = (101, 102, 103, 104, 105)
    return study

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

ARMS = (
    *("A0", "A2", "A7", "A8", "A9", "A10"),  # GRPO, controls of the credit, placebos
    *("A14", "A14e", "A14n", "A15", "A15s"),  # effects in other words
    "spo_mask",
)


def get_config(phase="search"):
    study = default()
    study.base = "configs/two_ways.py"
    study.sft = "configs/two_ways_sft.py"
    study.arms = {arm: arm for arm in ARMS}  # or {"name": "A14e optim.do_share=0.5"}
    study.method = "A14e"
    study.rivals = ("A0", "A2", "A8", "spo_mask")
    study.pairs = ("A15s-A15", "A7-A9", "A7-A10")
    study.seeds = (1, 2)
    study.updates = 60
    study.evaluate_every = 20
    study.changes = "checkpoint.every=20 log.rollouts_every=0 log.tensorboard=false"
    if phase == "confirm":
        study.confirms = True
        study.seeds = (101, 102, 103, 104, 105)
    return study

"""A study's raw results without any training: outcomes from coins with known chances."""

import dataclasses
import json

import numpy as np

from gccpo_jax.study.plan import Study

SPLITS = ("id", "label_wrong", "label_absent", "ood_depth")
UPDATES = 4


def study(**changes):
    """Two arms beside the method, two seeds."""
    arms = {"A0": "A0", "A2": "A2", "A7": "A7 optim.lr=1e-3"}
    known = dict(arms=arms, rivals=("A0", "A2"), pairs=("A2-A0",), seeds=(3, 5), updates=UPDATES)
    return Study(**known | changes)


def lines(plan, chance, items=72):
    """Lines of results.jsonl; `chance(arm, split, share)` of a right answer, share of training.

    A7 costs five tokens where the others cost one, so that they make 20 updates in the second
    comparison. Templates have two wordings.
    """
    rng = np.random.default_rng(0)
    templates = [f"{n % 2}/{n % 12}" for n in range(items)]
    yield {"kind": "plan", **dataclasses.asdict(plan)}
    for split in SPLITS:
        yield {"kind": "questions", "split": split, "items": list(range(items))} | {
            "templates": templates
        }
    known = set()
    levels = {seed: rng.random((len(SPLITS), items)) for seed in plan.seeds}
    for comparison in ("equal updates", "equal tokens")[: 1 + plan.matched]:
        for seed in plan.seeds:
            for arm in plan.arms:
                cheap = comparison == "equal tokens" and arm != "A7"
                updates = 5 * UPDATES if cheap else UPDATES
                which = {"arm": arm, "seed": seed, "updates": updates}
                yield {"kind": "end", "comparison": comparison, **which}
                if tuple(which.values()) in known:
                    continue
                known.add(tuple(which.values()))
                each = 5.0 if arm == "A7" else 1.0
                tokens = [each * (n + 1) for n in range(updates)]
                yield {"kind": "cell", **which, "tokens": tokens}
                for step in (0, updates // 2, updates):
                    for place, split in enumerate(SPLITS):
                        right = levels[seed][place] < chance(arm, split, step / updates)
                        row = {"step": step, "split": split, "scores": right.astype(int).tolist()}
                        yield {"kind": "scores", **which, **row}


def write(file, *args, **options):
    """`lines` as a file."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines(*args, **options)))
    return file

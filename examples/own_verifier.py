"""A verifier of one's own: half of the reward for an answer that is off by one.

PYTHONPATH=. python -m gccpo_jax.train --config configs/quickstart.py \\
    --config.reward.verifier=examples.own_verifier:verify

It judges rollouts, branches and evaluation, in a process of its own, with a deadline.
"""

import re


def verify(question: str, gold: str, response: str) -> float | None:
    """From 0 to 1; None: cannot be scored, so nothing is learned from it."""
    found = re.findall(r"#### (-?\d+)", response)
    if not gold:
        return None
    if not found:
        return 0.0
    distance = abs(int(found[-1]) - int(gold))
    return {0: 1.0, 1: 0.5}.get(distance, 0.0)


if __name__ == "__main__":
    from gccpo_jax.tasks import load_task
    from gccpo_jax.tasks.checking.user import with_verifier

    task = with_verifier(load_task("chain", train=1, id=1, ood=1), "own_verifier:verify")
    item = task.splits["id"][0]
    near = f"#### {int(item.answer) + 1}"
    print(task.verify(item, item.solution), task.verify(item, near), task.verify(item, "?"))

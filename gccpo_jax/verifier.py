"""A verifier of the user's in place of the task's own (`config.reward.verifier`).

    verifier(question: str, gold: str, response: str) -> float in [0, 1], or None

None: the response cannot be scored; it leaves every baseline and trains nothing. The verifier
judges rollouts, continued branches and evaluation alike; how an answer is read from a
response (`Task.extract`) stays the task's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.user_function import load_function

FIELD = "config.reward.verifier"
Verifier = Callable[[str, str, str], float | None]


def with_verifier(task: Task, name: str) -> Task:
    """The task with the verifier that the config names; the task itself for "".

    Raises:
      UserError: the function cannot be loaded; later, while it is used, that it raised or
        returned neither None nor a number from 0 to 1, with the question's id.
    """
    verifier = load_function(name, FIELD)
    if verifier is None:
        return task

    def verify(item: Item, response: str) -> float | None:
        told = f"{FIELD} = {name!r}, question {item.id}"
        try:
            found = verifier(item.question, item.answer or "", response)
        except Exception as error:  # the user's own code may raise anything
            raise UserError(f"{told}: {type(error).__name__}: {error}") from error
        if found is None:
            return None
        if not isinstance(found, (bool, int, float)) or not 0 <= found <= 1:
            raise UserError(f"{told}: it returned {found!r}; expected None or a number from 0 to 1")
        return float(found)

    return dataclasses.replace(task, verify=verify)

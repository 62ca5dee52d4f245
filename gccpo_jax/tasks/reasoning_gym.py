"""Any data set of reasoning-gym, scored by its own scorer."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.rewrites import corrupt

INSTRUCTION = (
    "Solve it step by step, one step a line. "
    "End with the final answer between <answer> and </answer>."
)
MAX_CHARACTERS = 4000  # of an answer; a longer one scores 0 unread


def reasoning_gym(
    dataset: str,
    train: int = 2000,
    held_out: int = 400,
    seed: int = 0,
    chat: bool = True,
    **options: Any,
) -> Task:
    """The task of one data set.

    Scores are the data set's own, in [0, 1]; many give partial credit.

    Args:
        dataset: its name in reasoning-gym, for example "chain_sum".
        train: training questions.
        held_out: questions of "id"; those that are also training questions are
            left out, so there may be fewer.
        seed: of the questions.
        chat: render the prompt with the tokenizer's chat template.
        **options: the data set's own, for example `min_terms=2`.
    """
    source = _create(dataset, train, seed, options)
    items = [_item(source[n], n) for n in range(train)]
    known = {item.question for item in items}
    # Question n of seed s is question n - 1 of seed s + 1, so the next seed is no other set.
    other = _create(dataset, held_out, seed + train, options)
    held = [_item(other[n], (1 << 24) + n) for n in range(held_out)]
    held = [item for item in held if item.question not in known]
    if not held:
        raise UserError(
            f"reasoning_gym:{dataset} has no question beside its training questions; "
            f"ask for fewer than train={train} or widen its options"
        )
    return Task(
        name=f"reasoning_gym:{dataset}",
        splits={"train": items, "id": held},
        prompt=lambda item: f"{item.question}\n\n{INSTRUCTION}\n",
        extract=extract,
        verify=functools.partial(_verify, source),
        cues=("<answer>", "The final answer:\n<answer>"),
        terminator="</answer>",
        chat=chat,
        corrupt=corrupt,
    )


def extract(response: str) -> str | None:
    """What stands between the last `<answer>` and `</answer>`.

    >>> extract("so <answer> 12 </answer>"), extract("12")
    ('12', None)
    """
    before, end, _ = response.rpartition("</answer>")
    _, start, answer = before.rpartition("<answer>")
    return answer.strip() if start and end else None


def _create(dataset: str, size: int, seed: int, options: dict[str, Any]) -> Any:
    try:
        import reasoning_gym as gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError(
            f"reasoning_gym:{dataset} needs reasoning-gym (pip install 'gccpo-jax[reasoning-gym]')"
        ) from error
    if dataset not in DATASETS:
        near = difflib.get_close_matches(dataset, DATASETS, n=5, cutoff=0.4)
        raise UserError(
            f"reasoning-gym has no data set {dataset!r}; "
            + (
                f"close ones: {', '.join(near)}"
                if near
                else f"it has {', '.join(sorted(DATASETS))}"
            )
        )
    try:
        return gym.create_dataset(dataset, size=size, seed=seed, **options)
    except (TypeError, ValueError, AssertionError) as error:
        known = [field.name for field in dataclasses.fields(DATASETS[dataset][1])]
        raise UserError(f"reasoning_gym:{dataset}: {error}; its options are {known}") from error


def _item(entry: dict[str, Any], number: int) -> Item:
    return Item(
        id=number,
        question=entry["question"].strip(),
        answer=str(entry["answer"]).strip(),
        meta={"entry": entry},
    )


def _verify(source: Any, item: Item, response: str) -> float:
    answer = extract(response)
    if answer is None or len(answer) > MAX_CHARACTERS:
        return 0.0
    try:
        return float(source.score_answer(answer=answer, entry=item.meta["entry"]))
    except Exception:  # scorers parse what a policy wrote; what they cannot read is wrong
        return 0.0

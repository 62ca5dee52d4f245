"""Any data set of reasoning-gym, scored by its own scorer."""

from __future__ import annotations

import base64
import dataclasses
import difflib
import functools
import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.checking.child import Child
from gccpo_jax.tasks.checking.user import ask, scorer_child
from gccpo_jax.tasks.rewrites import corrupt
from gccpo_jax.tasks.stated import Stated, final, prose

INSTRUCTION = (
    "Solve it step by step, one step a line. "
    "End with the final answer between <answer> and </answer>."
)
MAX_CHARACTERS = 4000  # of an answer; a longer one scores 0 unread
MEMORY_GIB = 4  # of the scorer's process
_log = logging.getLogger(__name__)


def reasoning_gym(
    dataset: str,
    train: int = 2000,
    held_out: int = 400,
    seed: int = 0,
    chat: bool = True,
    deadline_seconds: float = 5.0,
    **options: Any,
) -> Task:
    """The task of one data set.

    Scores are the data set's own, in [0, 1]; many give partial credit. Its scorer runs in a
    child process: some hand an answer to a parser that evaluates it, and "9**9**9**9" never ends.

    Args:
        dataset: its name in reasoning-gym, for example "chain_sum".
        train: training questions.
        held_out: questions of "id"; those that are also training questions are
            left out, so there may be fewer.
        seed: of the questions.
        chat: render the prompt with the tokenizer's chat template.
        deadline_seconds: time for one score; past it the response is unscorable.
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
        stated=stated,
        verify=functools.partial(_verify, _child(dataset, train, seed, options), deadline_seconds),
        needs_gold=False,
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
    return final(stated, response)


def stated(response: str) -> Iterator[Stated]:
    """Answers between tags, the last one first, and then what sentences call the answer."""
    tagged, end = False, len(response)
    while (end := response.rfind("</answer>", 0, end)) >= 0:
        start = response.rfind("<answer>", 0, end)
        if start < 0:
            break
        yield Stated(response[start + len("<answer>") : end].strip(), start)
        tagged, end = True, start
    if tagged:  # a sentence is not final, but a reader must not see it
        for start, phrase in prose(response):
            yield Stated(phrase.strip(" *`"), start)


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
    gold = entry["answer"]  # some sets have none: their scorer judges a response alone
    return Item(
        id=number,
        question=entry["question"].strip(),
        answer=(str(gold).strip() or None) if gold is not None else None,
        meta={"entry": entry},
    )


def _child(dataset: str, size: int, seed: int, options: dict[str, Any]) -> Child:
    return scorer_child(
        "gccpo_jax.tasks.reasoning_gym:scorer",
        f"the scorer of reasoning_gym:{dataset}",
        "reasoning-gym must import in a process of its own",
        gib=MEMORY_GIB,
        path=sys.path,
        make=[dataset, size, seed, options],
    )


def scorer(
    dataset: str, size: int, seed: int, options: dict[str, Any]
) -> Callable[[str, str], float]:
    """The data set's own scorer of an answer and a pickled entry; in the child process."""
    source = _create(dataset, size, seed, options)

    def score(answer: str, entry: str) -> float:
        read = pickle.loads(base64.b64decode(entry))  # which the parent made
        try:
            return min(max(float(source.score_answer(answer=answer, entry=read)), 0.0), 1.0)
        except MemoryError:
            raise
        except Exception:  # scorers parse what a policy wrote; what they cannot read is wrong
            return 0.0

    return score


def _verify(child: Child, seconds: float, item: Item, response: str) -> float | None:
    answer = extract(response)
    if answer is None or len(answer) > MAX_CHARACTERS:
        return 0.0
    entry = base64.b64encode(pickle.dumps(item.meta["entry"])).decode()
    try:
        return ask(child, [answer, entry], seconds)
    except TimeoutError as error:
        limits = f"deadline_seconds = {seconds:g}, {MEMORY_GIB} GiB"
        _log.warning("%s, question %d: unscorable, %s (%s)", child.name, item.id, error, limits)
        return None

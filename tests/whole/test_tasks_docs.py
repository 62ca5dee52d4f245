"""The examples of docs/tasks.md are what the code makes."""

import re

import numpy as np
import pytest

from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "tasks.md"
TASK = chain(ChainConfig(seed=2, train=20, id=3, ood=3))
WHAT = {
    "train": "the law of training",
    "id": "held out, same law",
    "ood_surface": "names, things and verbs that training never has",
    "ood_template": "new sentences of words that training has",
    "ood_range": "the answer is above every number of training",
    "ood_depth": "one or two operations more than the longest of training",
    "ood_clause": "a sentence about somebody else's things",
    "ood_reversed": "the end is given, the start is asked for",
    "ood_shortcut": "the label encodes a wrong answer",
    "ood_nolabel": "no label",
}
CUED = chain(ChainConfig(seed=2, train=20, id=3, ood=3, max_operations=2, shortcut=0.9, hidden=0.9))
CUE_SPLITS = {
    "label_right": "the label is the answer",
    "label_wrong": "it is another number",
    "label_absent": "there is none",
    "hidden_right": "the room is the answer",
    "hidden_wrong": "it is another number",
    "hidden_absent": "there is none",
    "ood_depth_nolabel": "`ood_depth` without its label; so for each family above but the last two",
}
STEPS = [
    "{name} has {start} {thing}",
    "So let us go on .",
    "Ben 1 + 1 = 2 cups",
    "{first}",
    "{first}",
    "#### {gold}",
    "{wrong_result}",
    "{wrong_operand}",
]


def splits_table(task, meanings):
    rows = [
        f"| `{name}` | {what} | {task.splits[name][0].question} | {task.splits[name][0].answer} |"
        for name, what in meanings.items()
    ]
    return "\n".join(
        ["| split | what is special | example | answer |", "| --- | --- | --- | --- |", *rows]
    )


def solution_block():
    return "```\n" + TASK.splits["id"][0].solution + "\n```"


def labels_table():
    item = TASK.splits["id"][0]
    problem = item.meta["problem"]
    a, b, *_ = problem.values()
    first = item.solution.split("\n")[0]
    words = {
        "name": problem.name,
        "thing": problem.thing,
        "start": problem.start,
        "gold": problem.gold(),
        "first": first,
        "wrong_result": item.solution.split("\n")[1].replace("= ", "= 1"),
        "wrong_operand": f"{problem.name} 3 + 9 = 12 {problem.thing}",
    }
    steps = [step.format(**words) for step in STEPS]
    rows = [f"| {s} | `{t}` |" for s, t in zip(steps, TASK.check(item, steps), strict=True)]
    return "\n".join([f"> {item.question}", "", "| step | label |", "| --- | --- |", *rows])


def section(name):
    """What follows a marker in the page, up to the next blank line outside of a table."""
    text = PAGE.read_text(encoding="utf-8")
    return text.split(f"<!-- {name} -->\n", 1)[1]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("chain:solution", solution_block()),
        ("chain:splits", splits_table(TASK, WHAT)),
        ("chain:cues", splits_table(CUED, CUE_SPLITS)),
        ("chain:labels", labels_table()),
    ],
)
def test_examples_are_generated(name, expected):
    assert section(name).startswith(expected + "\n"), f"write into {PAGE} instead:\n{expected}"


def test_every_split_is_documented():
    assert set(WHAT) == set(TASK.splits)
    families = {name.removesuffix("_nolabel") for name in CUED.splits if name.startswith("ood")}
    assert families <= {*WHAT, "ood"} and set(CUE_SPLITS) < set(CUED.splits)


def test_the_task_of_ones_own_works():
    code = re.match(r"```python\n(.*?)```", section("own"), re.S)[1]
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    task = names["parity"](size=10)
    item = task.splits["train"][1]
    assert task.prompt(item) == "How many ones has 11?\n"
    assert task.verify(item, "so 2") == 1.0 and task.verify(item, "") == 0.0
    assert len(code.strip().splitlines()) <= 30 and np.uint32(item.id) == item.id

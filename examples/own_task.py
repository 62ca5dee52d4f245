"""A task of one's own from a JSON Lines file, and what a policy answers to it.

python examples/own_task.py

PYTHONPATH=. python -m gccpo_jax.train --config configs/smollm2_gsm8k_cpu.py \\
    --config.policy.path=tiny --config.task.name=examples.own_task:pens --workdir runs/pens
"""

import json
import pathlib
import re

from gccpo_jax.sampling.answers import GREEDY, respond
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.questions import load_questions
from gccpo_jax.tasks import Item, Task

FILE = pathlib.Path(__file__).with_name("pens.jsonl")


def pens(path: str | pathlib.Path = FILE) -> Task:
    rows = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    items = [Item(n, row["question"], row["answer"]) for n, row in enumerate(rows)]
    return Task(
        name="pens",
        splits={"train": items, "id": items},
        prompt=lambda item: item.question + "\n",
        extract=lambda text: (re.findall(r"#### (\d+)", text) or [None])[-1],
        verify=lambda item, text: float(text.strip().endswith(f"#### {item.answer}")),
    )


if __name__ == "__main__":
    task = pens()
    model = open_model("tiny", task)
    asked = load_questions(task, "id", model.solver.tokenizer, max_prompt_tokens=32)
    how = dict(rule=GREEDY, draws=1, seed=0, batch=3, max_tokens=40)
    found = respond(model.solver, model.params, asked, **how)
    print(*found.texts.ravel(), f"accuracy {found.accuracy.mean:.2f}", sep="\n---\n")

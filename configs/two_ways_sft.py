"""A policy with two ways to an answer: it reasons in one wording, follows a cue in the other.

In the first wording ("Ana has 3 pens") demonstrations reason and the cue is random. In the
second ("There are 3 pens") the cue is right, and most demonstrations state at once the answer
that it gives away.

Command   python -m gccpo_jax.sft --config configs/two_ways_sft.py
          python -m gccpo_jax.sft --config configs/two_ways_sft.py:hidden   (the cue is the room)
Hardware  two CPU cores, five to eight minutes
Expect    label right 86 %, wrong 34 %, absent 35 % (docs/two_ways.md)
"""

import pathlib
import runpy


def get_config(cue="label"):
    tiny = pathlib.Path(__file__).with_name("tiny_sft.py")
    config = runpy.run_path(str(tiny))["get_config"]()
    config.steps = 250
    config.task.options.tied = True
    config.task.options.labelled = 0.9 if cue == "label" else 0.0
    config.task.options.shortcut = 1.0
    config.task.options.hidden = 1.0 if cue == "hidden" else 0.0
    config.task.options.direct = 0.9
    config.eval.ood_questions = 200
    return config

"""A policy that was taught a shortcut: what the lucky-guess demonstration looks at.

In nine of ten labelled questions the label gives the answer away. Solutions of two
operations are sound; those of three are careless: every second line states a wrong
result, and the answer is right all the same. So the policy learns two ways to an
answer: from its own steps, and, where these are worth nothing, from the label.

Command   python -m gccpo_jax.sft --config configs/shortcut_sft.py --workdir runs/shortcut
Hardware  two CPU cores, about four minutes
"""

import pathlib
import runpy


def get_config():
    tiny = pathlib.Path(__file__).with_name("tiny_sft.py")
    config = runpy.run_path(str(tiny))["get_config"]()
    config.task.options.shortcut = 0.9
    config.task.options.careless = 0.5
    config.task.options.direct = 0.0
    return config

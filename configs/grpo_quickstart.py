"""GRPO on the tiny policy: the quickstart with credit by outcome only.

Command   python -m gccpo_jax.train --config configs/grpo_quickstart.py
Hardware  two CPU cores, about two minutes
"""

import pathlib
import runpy


def get_config():
    quickstart = runpy.run_path(str(pathlib.Path(__file__).with_name("quickstart.py")))
    config = quickstart["get_config"]()
    config.credit.kind = "outcome"
    config.credit.baseline = "zscore"
    return config

"""Pages for people of what a run or an analysis recorded, and the same as typed rows.

from gccpo_jax.report import read_run
read_run("runs/quickstart-...").trajectories[0].steps[0].effect
"""

from gccpo_jax.report.analysed import Analysed, read_analysis
from gccpo_jax.report.read import Run, read_run

__all__ = ["Analysed", "Run", "read_analysis", "read_run"]

"""A run for people: what it recorded as typed rows, and one page that shows why.

from gccpo_jax.report import read_run
read_run("runs/quickstart-...").trajectories[0].steps[0].effect
"""

from gccpo_jax.report.read import Run, read_run

__all__ = ["Run", "read_run"]

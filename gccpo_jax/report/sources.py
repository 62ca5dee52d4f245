"""What a directory is a page of: runs together, or one analysis."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from gccpo_jax.errors import UserError
from gccpo_jax.report import analysis_page, page
from gccpo_jax.report.analysed import is_analysis, read_analysis
from gccpo_jax.report.read import read_run


@dataclasses.dataclass(frozen=True)
class Page:
    """A page and what it was made from."""

    text: str
    trajectories: int  # recorded, whether or not the page has room for them


def page_of(directories: Sequence[str | pathlib.Path], live: bool = False) -> Page:
    """The page of these directories.

    Args:
      directories: runs, whose curves are overlaid; or one analysis.
      live: the page asks its server for what is new.
    Raises:
      UserError: an analysis beside others; see `read_run` and `read_analysis`.
    """
    if not any(map(is_analysis, directories)):
        runs = [read_run(directory) for directory in directories]
        count = sum(len(run.trajectories) for run in runs)
        return Page(page.render(runs, live=live), count)
    if len(directories) > 1:
        one = next(filter(is_analysis, directories))
        raise UserError(f"{one}: an analysis has a page of its own; give it alone")
    found = read_analysis(directories[0])
    return Page(analysis_page.render(found, live=live), len(found.trajectories))

"""The pictures of the docs: the page of a run and of an analysis, and the terminal browser.

    REPORT_PICTURES=docs/images REPORT_RUN=runs/quickstart REPORT_ANALYSIS=analysis \\
        python -m pytest tests/report/test_browser_pictures.py

takes them of a real run and a real analysis; without these variables they are of small ones and
are looked at only for being there. Needs the extras `browser` and `view`.
"""

import asyncio
import os
import pathlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from gccpo_jax.report.entries import entries_of
from gccpo_jax.report.sources import page_of
from tests.helpers.analysed import rows, write_analysis
from tests.helpers.recorded import group, write_run

pytest.importorskip("playwright", reason="needs the extra `browser`")

# name: (what of, width, scheme).
PAGES = {
    "report-light": ("run", 1280, "light"),
    "report-dark": ("run", 1280, "dark"),
    "report-phone": ("run", 390, "light"),
    "report-analysis": ("analysis", 1280, "light"),
}
# The latest question from its heading on, below what sticks to the window's top.
LATEST = """heading => {
  heading.scrollIntoView();
  const bar = document.querySelector(".tools").getBoundingClientRect();
  scrollBy(0, heading.getBoundingClientRect().top - Math.max(bar.bottom, 0) - 12);
}"""
COLUMNS, LINES = 120, 36


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What pictures are taken of: directories of a run and of an analysis."""
    folder = tmp_path_factory.mktemp("pictured")
    given = {what: os.environ.get(f"REPORT_{what.upper()}") for what in ("run", "analysis")}
    return {
        "run": given["run"] or write_run(folder / "run", group()),
        "analysis": given["analysis"] or write_analysis(folder / "analysis", rows()),
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where pictures go."""
    folder = pathlib.Path(os.environ.get("REPORT_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("name", PAGES)
def test_pages(browser, places, kept, tmp_path, name):
    what, width, scheme = PAGES[name]
    file = tmp_path / "page.html"
    file.write_text(page_of([pathlib.Path(places[what])]).text)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(file.as_uri())
    if what == "run":
        page.locator(".group h3").last.evaluate(LATEST)
    page.screenshot(path=kept / f"{name}.png")
    page.close()
    assert (kept / f"{name}.png").stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore")  # textual's and asyncio's own
def test_terminal(browser, places, kept):
    pytest.importorskip("textual", reason="needs the extra `view`")
    from gccpo_jax.report.browse import Browser

    async def taken():
        app = Browser(entries_of(pathlib.Path(places["run"])))
        async with app.run_test(size=(COLUMNS, LINES)) as pilot:
            await pilot.press(*["j"] * (len(app.shown) - 4))  # among the latest
            await pilot.pause()
            return app.export_screenshot()

    with ThreadPoolExecutor() as elsewhere:  # in this thread the browser's own loop runs
        drawing = elsewhere.submit(lambda: asyncio.run(taken())).result()
    page = browser.new_page(viewport={"width": 1000, "height": 660})
    page.set_content(drawing)
    page.locator("svg").screenshot(path=kept / "view.png")
    page.close()
    assert (kept / "view.png").stat().st_size > 10_000

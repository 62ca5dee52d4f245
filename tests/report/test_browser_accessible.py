"""axe-core finds no serious violation in the pages of a run and of an analysis."""

import pytest

from gccpo_jax.report.sources import page_of
from tests.helpers.analysed import rows, write_analysis
from tests.helpers.recorded import HOSTILE, group, trajectory, write_run

pytest.importorskip("playwright", reason="needs the extra `browser`")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs `browser`")

# (width, scheme): a desk in both schemes, and a phone in one.
WAYS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (390, "light")}
# All of it opened and laid out.
OPEN_ALL = """
document.querySelectorAll("details").forEach((d) => { d.open = true; });
document.querySelectorAll(".group").forEach((g) => { g.style.contentVisibility = "visible"; });
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{what: file} of one page each."""
    folder = tmp_path_factory.mktemp("accessible")
    hostile = trajectory(5, question=HOSTILE, text=HOSTILE, answer=HOSTILE, row=1)
    places = {
        "run": write_run(folder / "run", [*group(), hostile]),
        "analysis": write_analysis(folder / "analysis", rows()),
    }
    for name, place in places.items():
        (folder / f"{name}.html").write_text(page_of([place]).text)
    return {name: folder / f"{name}.html" for name in places}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["run", "analysis"])
def test_no_serious_violation(browser, files, what, way):
    width, scheme = WAYS[way]
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(files[what].as_uri())
    page.evaluate(OPEN_ALL)
    found = axe.Axe().run(page).response
    page.close()
    bad = [
        f"{one['id']} ({one['impact']}): {one['help']}; {one['nodes'][0]['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert bad == []
    assert found["testEngine"]["name"] == "axe-core"

"""The page in a real browser: nothing leaves it, no error, and what a reader does works.

Needs the extra `browser` and a Chromium: the system's, or `playwright install chromium`.
"""

import pytest

from gccpo_jax.report.page import render
from gccpo_jax.report.read import read_run
from gccpo_jax.report.sources import page_of
from tests.helpers.analysed import rows, write_analysis
from tests.helpers.recorded import HOSTILE, group, trajectory, write_more, write_run
from tests.helpers.serving import serving

pytest.importorskip("playwright", reason="needs the extra `browser`")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    hostile = trajectory(5, question=HOSTILE, text=HOSTILE, answer=HOSTILE, row=1)
    run = read_run(write_run(folder / "run", [*group(), hostile]))
    page = folder / "report.html"
    page.write_text(render([run]))
    return page


@pytest.fixture
def opened(browser, file):
    """The page; what it asked for and complained of is in `requests` and `errors`."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert page.errors == []
    assert page.requests == [file.as_uri()]
    context.close()


def shown(page):
    return page.locator(".card:not([hidden])").count()


def test_hostile_text_runs_nothing(opened):
    assert "why a step was rewarded" in opened.title()
    assert opened.locator("img").count() == 0
    assert HOSTILE in opened.locator(".question").nth(1).inner_text()


def test_filters_and_search_choose_trajectories(opened):
    assert shown(opened) == 6
    opened.get_by_role("button", name="lucky (1)").click()
    assert shown(opened) == 1 and opened.locator("#count").inner_text().startswith("1 of 6")
    opened.get_by_role("button", name="unscorable (1)").click()
    assert shown(opened) == 2  # either mark
    opened.keyboard.press("Escape")
    opened.get_by_label("Search").fill("sound, wrong")
    assert shown(opened) == 1
    assert opened.locator(".group:not([hidden])").count() == 1


def test_all_of_it_is_reached_by_keys(opened):
    focused = "document.activeElement.id"
    opened.keyboard.press("j")
    opened.keyboard.press("j")
    assert opened.evaluate(focused).endswith("-t1")
    opened.keyboard.press("k")
    assert opened.evaluate(focused).endswith("-t0")
    opened.keyboard.press("/")
    opened.keyboard.type("jk")  # letters, here
    assert opened.evaluate(focused) == "search" and shown(opened) == 0
    opened.keyboard.press("Escape")
    tokens = opened.locator(".card").first.locator("details", has=opened.locator(".tokens"))
    tokens.locator("summary").focus()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Tab")
    assert tokens.locator(".about").inner_text() == "w0: A +0.50, log-prob -0.5, entropy 0.7"
    tokens.locator(".tokens span").nth(2).hover()
    assert "A −0.25" in tokens.locator(".about").inner_text()


BACK = "getComputedStyle(document.body).backgroundColor"


def test_dark_is_the_systems_choice_or_the_readers(opened):
    assert opened.evaluate(BACK) == "rgb(255, 255, 255)"
    opened.keyboard.press("d")
    dark = opened.evaluate(BACK)
    assert dark == "rgb(20, 23, 26)"
    assert opened.locator("#theme").get_attribute("aria-pressed") == "true"
    opened.reload()
    opened.requests.pop()
    opened.emulate_media(color_scheme="dark")
    assert opened.evaluate(BACK) == dark
    opened.locator("#theme").click()
    assert opened.evaluate(BACK) == "rgb(255, 255, 255)"


def test_a_phone_shows_it_without_scrolling_sideways(opened):
    opened.set_viewport_size({"width": 360, "height": 740})
    wide = "document.documentElement.scrollWidth"
    assert opened.evaluate(wide) <= 360
    boxes = [opened.locator(".card").nth(n).bounding_box() for n in (0, 1)]
    assert boxes[0]["x"] == boxes[1]["x"] and boxes[0]["width"] > 300


def test_a_live_page_takes_in_new_steps_and_keeps_its_filters(browser, tmp_path):
    workdir = write_run(tmp_path / "run", group())
    errors = []
    with serving(workdir) as address:
        page = browser.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.goto(address)
        page.get_by_role("button", name="lucky (1)").click()
        write_more(workdir, group(at=10))
        page.get_by_role("button", name="lucky (2)").wait_for(timeout=20_000)
        assert shown(page) == 2 and page.locator("#r0-s10-q0").is_visible()
        page.close()
    assert errors == []


def test_an_analysis_is_a_page_of_the_same_kind(browser, tmp_path):
    file = tmp_path / "analysis.html"
    file.write_text(page_of([write_analysis(tmp_path / "out", rows())]).text)
    page, seen = browser.new_page(), []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: seen.append(message.text))
    page.goto(file.as_uri())
    page.get_by_role("button", name="harmful (1)").click()
    assert shown(page) == 1 and page.locator("#count").inner_text() == "1 of 5 trajectories"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "q-0/0"
    assert seen == [file.as_uri()]
    page.close()


CONTRAST = """() => {
  const part = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = (rgb) => rgb.match(/\\d+/g).slice(0, 3).map(Number).map(part)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (e) => {
    const own = getComputedStyle(e).backgroundColor;
    return /, 0\\)$/.test(own) && e.parentElement ? behind(e.parentElement) : own;
  };
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const says = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!says || e.closest("svg, script, :disabled")) continue;
    const two = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a);
    const ratio = (two[0] + 0.05) / (two[1] + 0.05);
    if (ratio < 4.5) low.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(low)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(opened, scheme):
    opened.emulate_media(color_scheme=scheme)
    assert opened.evaluate(CONTRAST) == []  # 4.5 to 1, as WCAG AA asks

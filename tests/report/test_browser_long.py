"""A run of a thousand steps opens in under three seconds."""

import dataclasses

import pytest

from gccpo_jax.report.page import CURVES
from gccpo_jax.report.sources import page_of
from tests.helpers.recorded import group, metric_rows, write_run

pytest.importorskip("playwright", reason="needs the extra `browser`")

STEPS, EVERY = 1000, 10  # `log.rollouts_every`
SECONDS = 3.0
# Loaded, drawn once, and free to answer.
DRAWN = (
    "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
)


def long_run(workdir):
    """Two questions of eight trajectories at every tenth step, every curve at every step."""
    curves = {name: 0.5 for name in CURVES}
    metrics = [curves | row for row in metric_rows(STEPS)]
    eight = [*group(), *group()[:3]]
    rows = [
        dataclasses.replace(one, step=at, row=row, trajectory=n)
        for at in (1, *range(EVERY, STEPS + 1, EVERY))
        for row in (0, 1)
        for n, one in enumerate(eight)
    ]
    return write_run(workdir, rows, metrics)


def test_a_thousand_steps_open_in_under_three_seconds(browser, tmp_path, capsys):
    file = tmp_path / "report.html"
    file.write_text(page_of([long_run(tmp_path / "run")]).text)
    assert file.stat().st_size < 5e6
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(file.as_uri())
    seconds = page.evaluate(DRAWN) / 1000
    cards = page.locator(".card").count()
    with capsys.disabled():
        print(f"\n{STEPS} steps, {cards} trajectories: drawn after {seconds:.2f} s")
    assert seconds < SECONDS and cards > 500
    page.get_by_role("button", name="lucky").click()  # and what is far below is found
    last = page.locator(".card:not([hidden])").last
    last.focus()
    assert last.locator("h4").inner_text() == "6: right, says 7"
    page.close()

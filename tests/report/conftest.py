"""A Chromium for the tests of pages: the extra `browser`, and a browser of this machine.

Without one they are skipped, saying so. The browser is the system's, or what
`playwright install chromium` brings.
"""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    with playwright.sync_playwright() as driver:
        try:
            opened = driver.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield opened
        opened.close()

"""A headless browser of the system, for the tests of the page; and whether there is one.

    python -m tests.browser RUN/report.html docs/figures/report.png

takes the picture of a page that `docs/report.md` shows.
"""

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATH = next(filter(None, map(shutil.which, BROWSERS)), None)
MISSING = "" if PATH and find_spec("playwright") else "no Chromium (apt-get install chromium) or no playwright"
"""Why there is none; empty where there is."""


class Opened:
    """A page opened from disk without a network, and all that it said or asked for meanwhile."""

    def __init__(self, context: Any, path: Path):
        self.said: list[str] = []
        self.asked: list[str] = []
        context.on("request", lambda request: self.asked.append(request.url))
        self.page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.goto(path.as_uri())

    def wait(self) -> Any:
        """The page, once its script has run."""
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, path: Path, width: int = 1100, **options: Any) -> Iterator[Opened]:
    """A page in a window of its own."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
    yield Opened(context, path)
    context.close()


def photograph(path: Path, picture: Path, height: int = 1880) -> None:
    """A picture of the upper part of a page, in few colours: it is committed."""
    with started() as browser, opened(browser, path.resolve()) as one:
        one.wait()
        one.page.set_viewport_size({"width": 1100, "height": height})
        one.page.wait_for_timeout(300)
        taken = Image.open(io.BytesIO(one.page.screenshot()))
    taken.convert("RGB").quantize(48, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    photograph(*map(Path, sys.argv[1:3]))

"""Pages in Chromium: nothing may go wrong in them, and nothing may be loaded from elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (1280, 390)


@contextlib.contextmanager
def chromium():
    """A browser; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: `make browser` installs it, as root")
    with sync_api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextlib.contextmanager
def watched(browser, width, own, forgiven=()):
    """A page of that width; in the end nothing was asked for that does not begin with `own`, nothing failed.

    Errors of the console that have one of `forgiven` in them are expected.
    """
    page = browser.new_page(viewport={"width": width, "height": 900})
    faults, asked = [], []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    yield page
    page.close()
    assert [fault for fault in faults if not any(one in fault for one in forgiven)] == []
    assert [url for url in asked if not url.startswith((own, "data:", "blob:"))] == []


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def hindrances(page):
    """Serious faults of accessibility that axe finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(page).response["violations"]
    return [one["id"] for one in found if one["impact"] in ("serious", "critical")]


def picture(page, folder, name):
    """Takes a picture of all of a page, into $CASCADE_PICTURES where that is set."""
    folder = Path(os.environ.get("CASCADE_PICTURES", folder))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{page.viewport_size['width']}.png"
    page.screenshot(path=path, full_page=True)
    return path

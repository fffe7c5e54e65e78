"""Takes the pictures that stand in the README and the docs, of our own data.

python tests/helpers/pictures.py
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

from browsing import chromium
from places import ROOT

PICTURES = ROOT / "docs" / "pictures"
TEXT = "you took the money twice!! and nobody answers my emails"


def main():
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made, chromium() as browser:
        folder = Path(made)
        run("fit", "taxonomies/feedback.yaml", "--out", folder / "model")
        report(browser, folder)
        served(browser, folder)


def report(browser, folder):
    path = folder / "report.html"
    test = "training_data/feedback_test.jsonl"
    run("evaluate", test, "--model", folder / "model", "--report", path)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_selector("#treemap .slice")
    page.evaluate("document.querySelector('#tiles').remove(); document.querySelector('nav').remove()")
    box = page.locator("#treemap").bounding_box()
    taken(page, "report", box["y"] + box["height"] + 10)


def served(browser, folder):
    """The page to try the model on, and that of a review."""
    queue = folder / "inbox.review.jsonl"
    words = ("--model", folder / "model", "--rows", "20", "--out", queue)
    run("review", "training_data/feedback_test.jsonl", *words)
    with serving("--model", folder / "model", "--review", queue) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.fill("#texts", TEXT)
        page.press("#texts", "Control+Enter")
        page.hover("#answers .labels span >> nth=1")
        page.wait_for_selector("#reason .push")
        taken(page, "serve", 900)
        page.goto(f"{address}/review")
        page.wait_for_selector("#chips button")
        page.keyboard.press("Enter")
        page.wait_for_selector("#row-heading:has-text('Row 2')")
        page.hover("#chips button >> nth=0")
        page.wait_for_selector("#marked .push")
        taken(page, "review", 900)


@contextlib.contextmanager
def serving(*words):
    command = [sys.executable, "-m", "cascade", "serve", "--port", "0", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def taken(page, name, height):
    clip = {"x": 0, "y": 0, "width": 1280, "height": height}
    page.screenshot(path=PICTURES / f"{name}.png", clip=clip, full_page=True)


def run(*words):
    subprocess.run([sys.executable, "-m", "cascade", *map(str, words)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()

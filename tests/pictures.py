"""Takes the pictures that stand in the README and the docs, of our own data.

python tests/pictures.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"


def main():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("there is no chromium: `make browser` installs it, as root")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as started:
        report = reported(Path(made))
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(report.as_uri())
        page.wait_for_selector("#treemap .slice")
        page.evaluate("document.querySelector('#tiles').remove(); document.querySelector('nav').remove()")
        PICTURES.mkdir(exist_ok=True)
        box = page.locator("#treemap").bounding_box()
        clip = {"x": 0, "y": 0, "width": 1280, "height": box["y"] + box["height"] + 10}
        page.screenshot(path=PICTURES / "report.png", clip=clip, full_page=True)
        browser.close()


def reported(folder):
    """The page of an evaluation."""
    report = folder / "report.html"
    test = "training_data/feedback_test.jsonl"
    for words in (
        ("fit", "taxonomies/feedback.yaml", "--out", folder / "model"),
        ("evaluate", test, "--model", folder / "model", "--report", report),
    ):
        subprocess.run([sys.executable, "-m", "cascade", *map(str, words)], cwd=ROOT, check=True)
    return report


if __name__ == "__main__":
    main()

"""The pages in a browser: what people see and do, at a desk and on a phone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from test_cli import environment

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report and the tree of our own data, as files."""
    folder = tmp_path_factory.mktemp("pages")

    def run(*words):
        command = [sys.executable, "-m", "cascade", *map(str, words)]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment()).stdout

    run("fit", "taxonomies/feedback.yaml", "--out", folder / "model")
    test = "training_data/feedback_test.jsonl"
    run("evaluate", test, "--model", folder / "model", "--report", folder / "report.html")
    # Without any error, and without groups.
    (folder / "flat.yaml").write_text("name: flat\nlabels: [spam, ham]\n", "utf-8")
    given = [["spam"], ["ham"], [], ["spam", "ham"]] * 10
    lines = (
        json.dumps({"text": " ".join([*names, f"n{at}"]), "labels": names}) for at, names in enumerate(given)
    )
    (folder / "flat.jsonl").write_text("\n".join(lines), "utf-8")
    run("fit", folder / "flat.yaml", "--data", folder / "flat.jsonl", "--out", folder / "flat")
    flat = (folder / "flat.jsonl", "--model", folder / "flat")
    run("evaluate", *flat, "--compare", folder / "flat", "--report", folder / "flat.html")
    (folder / "tree.html").write_bytes(run("inspect-tree", folder / "model", "--format", "html"))
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=WIDTHS)
def opened(request, browser, pages):
    """Opens a page; nothing may be loaded from elsewhere, and nothing may go wrong in it."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    faults, asked = [], []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))

    def go(name):
        page.goto((pages / name).as_uri())
        page.wait_for_load_state("networkidle")
        return page

    yield go
    assert faults == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_report_fits_and_draws_its_charts(opened):
    page = opened("report.html")
    assert fits(page)
    page.wait_for_selector("#treemap .slice")
    assert page.locator("#treemap .slice").count() > 10
    assert page.locator("#sankey .sankey-node").count() > 10
    assert page.locator("#pr .scatterlayer .trace").count() == 3


def test_a_report_without_any_error_says_so(opened):
    page = opened("flat.html")
    assert fits(page)
    assert page.inner_text("#mend-rows") == page.inner_text("#pair-rows") == "none"
    assert not page.is_visible("#sankey")
    assert page.locator("#compared-rows tr").count() == 4


def test_labels_are_found_sorted_and_chosen(opened):
    page = opened("report.html")
    assert page.locator("#label-rows tr").count() == 120
    page.fill("#query", "refund")
    names = page.locator("#label-rows tr td:first-child button").all_inner_texts()
    assert {"refund_late", "refund_refused"} <= set(names)
    assert len(names) < 30
    page.fill("#query", "")
    page.click("#label-head button:text-is('rows')")
    rows = [int(text) for text in page.locator("#label-rows tr td:nth-child(3)").all_inner_texts()]
    assert rows == sorted(rows, reverse=True)
    assert page.get_attribute("#label-head th[data-key=rows]", "aria-sort") == "descending"
    page.fill("#query", "double_charge")
    page.click("#label-rows button")
    assert page.inner_text("#label-name") == "double_charge"


def test_the_slider_recomputes_precision_recall_and_f1(opened):
    page = opened("report.html")
    before = page.inner_text("#threshold-value"), page.inner_text("#r")
    page.focus("#threshold")
    page.keyboard.press("End")
    assert float(page.inner_text("#threshold-value")) < float(before[0])
    assert float(page.inner_text("#r")) >= float(before[1])
    precision, recall = (float(page.inner_text(name)) for name in ("#p", "#r"))
    assert float(page.inner_text("#f")) == pytest.approx(
        2 * precision * recall / (precision + recall), abs=0.02
    )


def test_the_tree_fits_opens_and_is_searched(opened):
    page = opened("tree.html")
    assert fits(page)
    page.fill("input[type=search]", "double_charge")
    visible = [one.inner_text() for one in page.locator("li .name").all() if one.is_visible()]
    assert visible == ["feedback", "billing", "double_charge"]
    page.fill("input[type=search]", "")
    page.click("#open")
    assert page.locator("details:not([open])").count() == 0


@pytest.mark.parametrize("name", ["report.html", "tree.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_hinders_anybody(opened, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = opened(name)
    page.emulate_media(color_scheme=scheme)
    with suppress(Exception):  # the chart may be drawn anew
        page.wait_for_timeout(300)
    found = axe.Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []

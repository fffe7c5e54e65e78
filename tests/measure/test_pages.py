"""The pages that are files, in a browser: what people see and do, at a desk and on a phone."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from contextlib import suppress
from itertools import islice

import pytest
from browsing import WIDTHS, chromium, fits, hindrances, picture, watched
from places import ROOT
from processes import environment

BILLS = ROOT.parent / "shared" / "data" / "us_bills"


def run(*words):
    command = [sys.executable, "-m", "cascade", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment()).stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report and the tree of our own data, as files."""
    folder = tmp_path_factory.mktemp("pages")
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
    with chromium() as found:
        yield found


@pytest.fixture(params=WIDTHS)
def page(request, browser):
    with watched(browser, request.param, "file://") as found:
        yield found


@pytest.fixture
def opened(page, pages):
    """Opens a page."""
    return lambda name: loaded(page, pages / name)


def loaded(page, path):
    page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    return page


# Of the texts in a chart those that leave it, or their box, and those that lie on each other.
CROWDED = """chart => {
  const around = document.querySelector(chart).getBoundingClientRect();
  const texts = [...document.querySelectorAll(`${chart} text`)].filter((one) => one.textContent.trim());
  const boxes = texts.map((one) => ({ said: one.textContent, box: one.getBoundingClientRect() }));
  const leaves = ({ box }) => box.left < around.left - 1 || box.right > around.right + 1
    || box.top < around.top - 1 || box.bottom > around.bottom + 1;
  const meets = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
  const found = boxes.filter(leaves).map((one) => `leaves: ${one.said}`);
  boxes.forEach((one, place) => boxes.slice(place + 1).forEach((other) => {
    if (meets(one.box, other.box)) found.push(`meet: ${one.said} | ${other.said}`);
  }));
  return found;
}"""


def check_report(page, path, folder, name):
    """A report is not cut off and not empty; its charts can be read."""
    loaded(page, path)
    assert path.stat().st_size < 6_000_000
    page.wait_for_selector("#treemap .slice")
    page.wait_for_selector("#sankey .sankey-node")
    picture(page, folder, name)
    assert fits(page)
    for chart in ("#treemap", "#sankey"):
        assert page.evaluate(CROWDED, chart) == []
    assert page.locator("#pr .scatterlayer .trace").count() == 3


def test_the_report_can_be_read(page, pages, tmp_path):
    check_report(page, pages / "report.html", tmp_path, "report")
    assert page.locator("#treemap .slice").count() > 10
    assert page.locator("#sankey .sankey-node").count() > 10


def test_the_report_of_hundreds_of_labels_can_be_read(browser, tmp_path):
    if not BILLS.exists():
        pytest.skip(f"there is no {BILLS}")
    # A page of many labels is what counts here, not how well they are known.
    with gzip.open(BILLS / "train.jsonl.gz", "rt") as lines:
        (tmp_path / "train.jsonl").write_text("".join(islice(lines, 400)))
    with gzip.open(BILLS / "test.jsonl.gz", "rt") as lines:
        (tmp_path / "test.jsonl").write_text("".join(islice(lines, 300)))
    taxonomy = "taxonomies/us_bills.yaml"
    run("fit", taxonomy, "--data", tmp_path / "train.jsonl", "--out", tmp_path / "model")
    path = tmp_path / "report.html"
    run("evaluate", tmp_path / "test.jsonl", "--model", tmp_path / "model", "--report", path)
    for width in WIDTHS:
        with watched(browser, width, "file://") as page:
            check_report(page, path, tmp_path, "report-us-bills")
            check_hundreds_of_labels(page)


def check_hundreds_of_labels(page):
    assert page.locator("#label-rows tr").count() == 536
    assert page.locator("#treemap .slice").count() > 30
    assert "largest of" in page.inner_text("#flow-note")
    assert 20 < page.locator("#sankey .sankey-link").count() <= 60
    page.fill("#query", "income tax")
    assert page.locator("#label-rows tr").count() >= 3
    page.click("#label-rows tr:has-text('Income tax rates') button")
    before = page.inner_text("#r")
    page.focus("#threshold")
    page.keyboard.press("End")
    assert float(page.inner_text("#r")) >= float(before)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert hindrances(page) == []


def test_a_report_without_any_error_says_so(opened):
    page = opened("flat.html")
    assert fits(page)
    assert page.inner_text("#mend-list") == page.inner_text("#pair-rows") == "none"
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
    page = opened(name)
    page.emulate_media(color_scheme=scheme)
    with suppress(Exception):  # the chart may be drawn anew
        page.wait_for_timeout(300)
    assert hindrances(page) == []

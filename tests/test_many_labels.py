"""What shows labels, with 5,000 of them: they are found by a search, shown in parts, and of some size."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import xml.etree.ElementTree as ET

import pytest
from browsing import WIDTHS, chromium, fits, hindrances, watched
from many_labels import GROUPS, LABELS, SECTIONS, TAUGHT, write_many_labels
from processes import command, environment

MOST_ELEMENTS = 6_000
"""Of a page whose parts are made when they are wanted: one with all labels has 30,000 and more."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, home):
    """A model folder, a report, a tree and a queue."""
    found = tmp_path_factory.mktemp("many")
    write_many_labels(found)
    run(found, "fit", "taxonomy.yaml", "--out", "model")
    run(found, "evaluate", "rows.jsonl", "--model", "model", "--report", "report.html")
    (found / "tree.html").write_text(run(found, "inspect-tree", "model", "--format", "html").stdout, "utf-8")
    return found


def run(folder, *words, code=0):
    done = subprocess.run(
        command(*words), cwd=folder, check=False, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(params=WIDTHS)
def page(request, browser):
    with watched(browser, request.param, "file://") as found:
        yield found


def count_elements(page):
    return page.evaluate("document.querySelectorAll('*').length")


def visible_names(page):
    return page.evaluate(
        "[...document.querySelectorAll('main .name')].filter((one) => one.checkVisibility())"
        ".map((one) => one.textContent)"
    )


# The tree


def test_the_tree_is_searched_and_opened(page, folder):
    path = folder / "tree.html"
    assert path.stat().st_size < 3_000_000
    page.goto(path.as_uri())
    assert visible_names(page) == ["many", *(f"section_{number}" for number in range(SECTIONS))]
    page.fill("input[type=search]", "topic_4242")
    assert visible_names(page) == ["many", "section_16", "group_212", "topic_4242"]
    assert page.inner_text("output") == f"1 of {1 + SECTIONS + GROUPS + LABELS} found"
    page.fill("input[type=search]", "matter ecec")
    assert page.inner_text("output").startswith("1 of ")
    page.fill("input[type=search]", "")
    page.click("#open")
    page.locator("text=topic_4999").first.scroll_into_view_if_needed()
    assert page.locator("text=topic_4999").first.is_visible()
    assert fits(page)


def test_a_figure_beside_a_name_is_no_part_of_it(page, folder):
    """Once the text of a line was searched as one: `topic_1` and `7 of 30` would be `topic_17`."""
    page.goto((folder / "tree.html").as_uri())
    page.fill("input[type=search]", "topic_1730")
    assert page.inner_text("output").startswith("1 of ")


def test_a_terminal_shows_the_levels_that_fit_and_a_pipe_all(folder):
    shown, told = run_in_terminal(folder, "inspect-tree", "taxonomy.yaml")
    lines = shown.splitlines()
    assert SECTIONS + GROUPS < len(lines) < SECTIONS + GROUPS + 10
    assert "20 labels below" in shown
    assert "topic_4242" not in shown
    assert "5,271 lines: shown down to level 2 of 3. All of them: --depth 3" in told
    assert "topic_4242" in run_in_terminal(folder, "inspect-tree", "taxonomy.yaml", "--depth", "3")[0]
    piped = run(folder, "inspect-tree", "taxonomy.yaml")
    assert piped.stderr == ""
    assert sum("topic_" in line for line in piped.stdout.splitlines()) == LABELS


def run_in_terminal(folder, *words):
    """What a command shows in a terminal, and what it says beside."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*words),
        cwd=folder,
        stdout=theirs,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(TERM="dumb"),
    ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: read_terminal(ours), b""))
        told = process.stderr.read().decode()
    os.close(ours)
    assert process.returncode == 0
    return shown.decode(), told


def read_terminal(end):
    try:
        return os.read(end, 1 << 16)
    except OSError:  # nobody is at the other end any more
        return b""


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_graphs_say_how_many_nodes_another_depth_has(form, folder):
    done = run(folder, "inspect-tree", "taxonomy.yaml", "--format", form)
    assert done.stdout.count("topic_") + done.stdout.count("topic#95;") == LABELS
    assert "show less with --depth 2 (271 nodes) or --group" in done.stderr
    less = run(folder, "inspect-tree", "taxonomy.yaml", "--format", form, "--depth", "2")
    assert less.stderr == ""
    assert less.stdout.count("20 labels") == GROUPS


# Before a fit, and beside it


def test_a_check_shows_a_few_of_thousands_and_says_how_many(folder):
    done = run(folder, "check", "taxonomy.yaml", code=1)
    assert f"{LABELS - len(TAUGHT):,} labels have no training row" in done.stdout
    assert f"and {LABELS - len(TAUGHT) - 10:,} more" in done.stdout
    assert len(done.stdout.splitlines()) < 60


def test_a_dry_run_shows_the_largest_groups_and_json_all(folder):
    shown = run(folder, "fit", "taxonomy.yaml", "--dry-run").stdout
    lines = shown.splitlines()
    assert len(lines) < 50
    assert [name for name in ("group_0", "group_212") if any(line.startswith(f"{name} ") for line in lines)]
    assert "and 231 groups with fewer rows; --json has all" in shown
    assert "271 in all" in shown
    told = json.loads(run(folder, "fit", "taxonomy.yaml", "--dry-run", "--json").stdout)
    assert len(told["groups"]) == 1 + SECTIONS + GROUPS


def test_label_studio_gets_every_label_below_its_groups(folder):
    told = ET.fromstring(run(folder, "label-studio", "config", "--model", "model").stdout)
    assert len(told.findall("./Taxonomy/Choice/Choice/Choice")) == LABELS
    run(folder, "label-studio", "export", "rows.jsonl", "--model", "model", "--out", "tasks.json")
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    assert tasks[0]["annotations"][0]["result"][0]["value"]["taxonomy"] == [
        ["section_16", "group_212", "topic_4242"]
    ]


# The report


def names_in(page):
    return page.locator("#label-rows tr td:first-child button").all_inner_texts()


def test_a_report_finds_a_label_and_shows_the_others_in_parts(page, folder):
    path = folder / "report.html"
    assert path.stat().st_size < 9_000_000
    page.goto(path.as_uri())
    assert len(names_in(page)) == 200
    assert set(names_in(page)[:4]) == {f"topic_{label}" for label in TAUGHT}  # what has no rows stands last
    page.fill("#query", "topic_4242")
    assert names_in(page) == ["topic_4242"]
    assert page.inner_text("#found") == "1 found"
    assert not page.is_visible("#more")
    page.click("#label-rows button")
    assert page.inner_text("#label-name") == "topic_4242"
    page.fill("#query", "group_212")
    assert len(names_in(page)) == 20
    page.fill("#query", "")
    assert page.inner_text("#label-count").startswith("200 of 5,000 shown")
    page.focus("#more-labels")
    page.keyboard.press("Enter")
    assert len(names_in(page)) == 400
    assert page.evaluate("document.activeElement.textContent") == names_in(page)[200]
    page.click("#label-head button:text-is('label')")
    assert names_in(page)[0] == "topic_0"
    page.wait_for_selector("#treemap .slice")
    page.wait_for_selector("#pr .scatterlayer .trace")
    assert count_elements(page) < 2 * MOST_ELEMENTS
    assert fits(page)
    assert hindrances(page) == []


def test_a_report_goes_into_a_section_and_back(page, folder):
    page.goto((folder / "report.html").as_uri())

    def shows(name):
        page.locator("#treemap .slicetext", has_text=name).first.wait_for()

    def click(name):
        page.locator("#treemap .slice", has_text=name).first.click(force=True, position={"x": 12, "y": 12})

    shows("section_16" if page.viewport_size["width"] > 640 else "many")
    page.evaluate("go({ points: [{ id: '/section_16' }] })")
    shows("group_212")
    page.evaluate("go({ points: [{ id: '/section_16/group_212' }] })")
    shows("topic_4242")
    click("group_212")  # the one that is open: back to what is above it
    shows("group_211")


# The service


@pytest.fixture(scope="module")
def served(folder):
    pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
    pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
    from served import serving

    from cascade.model.folder import digest_of, read_manifest
    from cascade.teach.queue import QueuedRow, write_queue
    from cascade.teach.selection import Doubt

    scores = {"topic_4242": 0.4, "topic_17": 0.2}
    doubts = (Doubt("near threshold", "topic_4242", 0.9),)
    digest = digest_of(read_manifest(folder / "model"))
    text = "dear all, about word4242"
    rows = [QueuedRow(number, text, ("topic_18",), scores, doubts, digest) for number in (1, 2)]
    write_queue(folder / "in.review.jsonl", rows)
    with serving(folder / "model", "--review", str(folder / "in.review.jsonl")) as (port, _):
        yield port


@pytest.fixture(params=WIDTHS)
def visited(request, browser, served):
    with watched(browser, request.param, f"http://127.0.0.1:{served}") as found:
        yield found


def test_the_likeliest_stands_first_and_any_label_is_found(visited, served):
    visited.goto(f"http://127.0.0.1:{served}")
    visited.fill("#texts", "dear all, about word4242 and group212")
    visited.press("#texts", "Control+Enter")
    visited.wait_for_selector("#tree button.chosen")
    assert visited.locator("#tree .name").all_inner_texts()[:3] == ["section_16", "group_212", "topic_4242"]
    visited.fill("#find", "topic 4998")
    assert visited.inner_text("#found") == "1 found"
    assert visited.locator("#tree .name").all_inner_texts() == ["section_19", "group_249", "topic_4998"]
    visited.fill("#find", "topic")
    assert visited.inner_text("#found") == "5,000 found, 100 shown"
    assert count_elements(visited) < MOST_ELEMENTS
    visited.fill("#find", "")
    visited.check("#all")
    assert visited.locator("#tree > li").count() == SECTIONS
    visited.locator("#tree .node", has_text="section_19").click()
    visited.locator("#tree .node", has_text="group_249").click()
    assert visited.locator("#tree .node", has_text="topic_4999").is_visible()
    assert count_elements(visited) < MOST_ELEMENTS
    assert fits(visited)
    assert hindrances(visited) == []


def test_in_a_review_any_label_is_found_and_chosen_by_keys(visited, served):
    visited.goto(f"http://127.0.0.1:{served}/review")
    visited.wait_for_selector("#chips button")
    assert visited.locator("#choices input[value=topic_4242]").is_visible()  # it is in doubt
    assert visited.locator("#choices input[value=topic_999]").count() == 0
    visited.keyboard.press("/")
    visited.keyboard.type("topic 99")
    assert visited.inner_text("#matches") == f"{sum('99' in str(label) for label in range(LABELS))} found"
    assert visited.locator("#choices .active").inner_text().strip() == "topic_99"  # what is called just so
    visited.keyboard.press("Enter")
    visited.keyboard.press("ArrowDown")
    assert visited.locator("#choices .active").inner_text().strip() == "topic_199"
    visited.keyboard.press("Escape")
    chips = visited.locator("#chips button").all_inner_texts()
    assert [one.split()[1] for one in chips] == ["topic_18", "topic_99"]
    assert visited.locator("#choices input[value=topic_99]").is_checked()
    visited.fill("#search", "topic")
    assert visited.inner_text("#matches") == "5,000 found, 200 shown: write more of the name"
    assert visited.locator("#choices .choice").count() == 200
    visited.press("#search", "Escape")
    visited.locator("summary", has_text="section_19").click()
    visited.locator("summary", has_text="group_249").click()
    visited.locator("#choices input[value=topic_4999]").check()
    assert visited.locator("#chips button").count() == 3
    visited.locator("#choices input[value=topic_4999]").uncheck()
    visited.keyboard.press("1")
    assert "topic_4242" in visited.inner_text("#chips")
    visited.keyboard.press("1")
    assert count_elements(visited) < MOST_ELEMENTS
    assert fits(visited)
    assert hindrances(visited) == []


def test_the_taxonomy_goes_packed_to_who_takes_that(served):
    from served import get

    plain = get(served, "/v1/taxonomy")[2]
    _, headers, packed = get(served, "/v1/taxonomy", accept_encoding="br, gzip;q=0.5")
    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "accept-encoding"
    assert gzip.decompress(packed) == plain
    assert len(packed) < 150_000 < len(plain)
    assert get(served, "/v1/taxonomy", accept_encoding="gzip;q=0.0, br")[2] == plain

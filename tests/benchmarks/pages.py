"""Thousands of labels on screen: seconds and sizes of whatever shows them, in a terminal and in Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import Bench
from measure import NotMeasuredError, existing, measured
from page import Aim, Section, Table, compare

LABELS, GROUPS, SECTIONS, ROWS = 5_000, 250, 20, 20_000
SOUGHT = "l4242"
WIDTHS = (1280, 390)
FORMATS = ("text", "html", "json", "mermaid", "dot")

Found = dict[str, tuple[float, float | None]]
"""Seconds and MB by what was done."""


def pages(bench: Bench) -> Section:
    """Commands first, then what they wrote in a browser, at the widths of a desk and a phone."""
    table = Table((f"{LABELS:,} labels", "seconds", "MB"))
    found: Found = {}
    with bench.noting(table.notes, "displays"):
        folder = _fitted(bench)
        found |= _commands(bench, folder)
        with _chromium() as browser:
            for width in WIDTHS:
                found |= _opened(browser, folder, width)
    for what, (seconds, size) in found.items():
        table.add(what, f"{seconds:.2f}", "" if size is None else f"{size:.2f}")
    return Section("pages", [table, compare(AIMS, found)])


def _fitted(bench: Bench) -> Path:
    folder = bench.folder / "shown"
    script = existing(bench.settings.script.with_name("many_labels.py"))
    size = ("--labels", LABELS, "--groups", GROUPS, "--sections", SECTIONS, "--rows", ROWS)
    measured([sys.executable, script, "make", folder, *map(str, size)], bench.settings.limit_seconds)
    bench.cascade("fit", folder / "taxonomy.yaml", "--out", folder / "model")
    return folder


def _commands(bench: Bench, folder: Path) -> Found:
    found: Found = {}
    model, test, limit = folder / "model", folder / "test.jsonl", bench.settings.limit_seconds

    def run(what: str, *words: str | Path) -> str:
        done = measured([sys.executable, "-m", "cascade", *words], limit)
        found[what] = (done.seconds, len(done.answer.encode()) / 1e6)
        return done.answer

    for form in FORMATS:
        told = run(f"inspect-tree --format {form}", "inspect-tree", model, "--format", form)
        (folder / f"tree.{form}").write_text(told, "utf-8")
    taxonomy = folder / "taxonomy.yaml"
    run("fit --dry-run", "fit", taxonomy, "--dry-run")
    run("label-studio config", "label-studio", "config", "--model", model)
    report, queue, tasks = folder / "report.html", folder / "in.review.jsonl", folder / "tasks.json"
    run("evaluate --report", "evaluate", test, "--model", model, "--report", report)
    run("label-studio export", "label-studio", "export", test, "--model", model, "--out", tasks)
    run("review", "review", test, "--model", model, "--rows", "20", "--out", queue)
    for what, path in (("evaluate --report", report), ("label-studio export", tasks), ("review", queue)):
        found[what] = (found[what][0], path.stat().st_size / 1e6)
    return found


@contextmanager
def _chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise NotMeasuredError("playwright is not installed") from error
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise NotMeasuredError("there is no Chromium: `make browser` installs it")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def _opened(browser: Any, folder: Path, width: int) -> Found:
    found: Found = {}
    page = browser.new_page(viewport={"width": width, "height": 900})

    def timed(what: str, act: Callable[[], object], done: str) -> None:
        """Until a condition holds and two frames are drawn."""
        start = time.perf_counter()
        act()
        page.wait_for_function(f"() => {done}")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found[f"{what}, {width} wide"] = (time.perf_counter() - start, None)

    tree, report = (folder / name for name in ("tree.html", "report.html"))
    timed("tree opened", lambda: page.goto(tree.as_uri()), "document.querySelector('form:not([hidden])')")
    search = "document.querySelector('output').textContent.startsWith('1 of')"
    timed("tree searched", lambda: page.fill("input[type=search]", SOUGHT), search)
    rows = "document.querySelectorAll('#label-rows tr').length {}"
    timed("report opened", lambda: page.goto(report.as_uri(), wait_until="commit"), rows.format("> 1"))
    charts = "document.querySelector('#sankey .sankey-node') && document.querySelector('#pr .scatterlayer')"
    timed("report opened, with its charts", page.reload, charts)
    timed("report searched", lambda: page.fill("#query", SOUGHT), rows.format("=== 1"))
    with _served(folder) as address:
        timed("served page opened", lambda: page.goto(address), "document.querySelector('#tree li')")
        one = "document.querySelector('#{}').textContent === '1 found'"
        timed("served page searched", lambda: page.fill("#find", SOUGHT), one.format("found"))
        shown = "document.querySelector('#choices li') && document.querySelector('#text').textContent"
        timed("review opened", lambda: page.goto(f"{address}/review"), shown)
        timed("review searched", lambda: page.fill("#search", SOUGHT), one.format("matches"))
    page.close()
    return found


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    words = ("--model", folder / "model", "--port", "0", "--review", folder / "in.review.jsonl")
    command = [sys.executable, "-m", "cascade", "serve", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield (process.stdout.readline() if process.stdout else "").strip()
        finally:
            process.terminate()


def _seconds(*whats: str) -> Callable[[Found], float]:
    """Of one thing after the other, at the slower of the two widths."""
    return lambda found: max(sum(found[f"{what}, {width} wide"][0] for what in whats) for width in WIDTHS)


AIMS = (
    Aim("`inspect-tree --format html`, s", lambda of: of["inspect-tree --format html"][0], "2 or less"),
    Aim("tree opened and searched, s", _seconds("tree opened", "tree searched"), "2 or less"),
    Aim(
        "report opened and searched, s",
        _seconds("report opened, with its charts", "report searched"),
        "3 or less",
    ),
    Aim("review opened and searched, s", _seconds("review opened", "review searched"), "3 or less"),
)

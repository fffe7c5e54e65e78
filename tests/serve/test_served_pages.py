"""The pages of `cascade serve` in a browser: what people see and do, at a desk and on a phone."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

from browsing import WIDTHS, chromium, fits, hindrances, picture, watched
from served import TOKEN, get, put_in_place, serving, wait_for_model, wait_until

from cascade.fitted import Cascade
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.teach.queue import QueuedRow, write_queue
from cascade.teach.selection import Doubt

TEXTS = (
    "charged twice please, and the box",
    "smashed glass, furious error 😀",
    "hello, when are you open?",
    "arrived slowly today " * 60,
)
PROPOSED = (["double_charge"], ["broken", "angry"], [], ["late"])


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(params=WIDTHS)
def width(request):
    return request.param


@pytest.fixture
def queue(tmp_path, model):
    rows = [
        QueuedRow(
            f"q{n}",
            text,
            tuple(labels),
            {name: 0.6 - 0.1 * place for place, name in enumerate([*labels, "refund", "vat_wrong"])},
            (Doubt("near threshold", "refund", 0.9), Doubt("nothing chosen", "", 1.0)),
            model.digest,
        )
        for n, (text, labels) in enumerate(zip(TEXTS, PROPOSED, strict=True), 1)
    ]
    write_queue(tmp_path / "in.review.jsonl", rows)
    return tmp_path / "in.review.jsonl"


@pytest.fixture
def served(shop_model, queue):
    with serving(shop_model, "--review", str(queue)) as (port, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def page(browser, width, served):
    with watched(browser, width, served, forgiven=("409",)) as found:
        found.goto(f"{served}/review")
        shows(found, "Row 1 of 4")
        yield found


def shows(page, heading):
    page.wait_for_function(
        "wanted => document.getElementById('row-heading').textContent === wanted", arg=heading
    )


def says(page, what):
    page.wait_for_function(
        "wanted => document.getElementById('status').textContent.includes(wanted)", arg=what
    )


def chips(page):
    return [one.split()[1] for one in page.locator("#chips button").all_inner_texts()]


@pytest.fixture
def kept(queue, shop_model):
    """What `fit` would read by now."""
    taxonomy = Cascade.load(shop_model).taxonomy

    def read():
        path = queue.with_name("in.reviewed.jsonl")
        rows, refused, _ = read_all([path], Columns(), taxonomy) if path.exists() else ([], [], [])
        assert refused == []
        return {row.id: set(row.labels) for row in rows}

    return read


# The page to try the model on


@pytest.fixture
def trying(browser, width, served):
    with watched(browser, width, served) as found:
        found.goto(served)
        found.fill("#texts", "charged twice\n<b>smashed glass</b>")
        found.press("#texts", "Control+Enter")
        found.wait_for_selector("#answers li:nth-child(2)")
        yield found


def test_the_walk_lights_up_and_words_tell_why(trying, tmp_path):
    assert "double_charge" in trying.inner_text("#answers li:nth-child(1)")
    chosen = trying.locator("#tree button.chosen").first
    assert "✓" in chosen.inner_text()
    chosen.hover()
    trying.wait_for_selector("#reason .push.for")
    assert "reaches the threshold" in trying.inner_text("#reason")
    assert set(trying.locator("#text mark.for").all_inner_texts()) <= {"charged", "twice"}
    assert trying.locator("#text mark.for").count() >= 1
    assert fits(trying)
    picture(trying, tmp_path, "served")


def test_a_label_of_any_answer_tells_why(trying):
    trying.hover("#answers li:nth-child(2) .labels span:has-text('broken')")
    trying.wait_for_selector("#text mark.for")
    assert trying.inner_text("#text") == "<b>smashed glass</b>"
    assert {"smashed", "glass"} & set(trying.locator("#text mark.for").all_inner_texts())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_hinders_who_tries(trying, scheme):
    trying.emulate_media(color_scheme=scheme)
    trying.locator("#tree button.chosen").first.hover()
    trying.wait_for_selector("#reason .push")
    assert hindrances(trying) == []


def test_the_words_that_carry_labels_are_marked_in_each_text(trying):
    said = "#answers li:nth-child(3) .said"

    def marks():
        found = trying.locator(f"{said} mark").all()
        return {mark.get_attribute("title"): mark.inner_text() for mark in found}

    trying.fill("#texts", "late\n<b>late</b>\n😀 <b>smashed glass</b> and a furious complaint")
    trying.press("#texts", "Control+Enter")
    trying.wait_for_selector(said)
    assert trying.inner_text(said) == "😀 <b>smashed glass</b> and a furious complaint"
    assert marks() == {"broken": "smashed glass", "angry": "furious complaint"}
    trying.hover("#answers li:nth-child(3) .labels span:has-text('broken')")
    assert marks() == {"broken": "smashed glass"}
    trying.hover("h1")
    assert len(marks()) == 2


def test_both_pages_lead_to_each_other_and_want_the_token(browser, shop_model, queue):
    options = ("--review", str(queue), "--token-env", "TOKEN_OF_TESTS")
    with serving(shop_model, *options, TOKEN_OF_TESTS=TOKEN) as (port, _):
        own = f"http://127.0.0.1:{port}"
        with watched(browser, 1280, own, forgiven=("401",)) as page:
            page.goto(own)
            page.click("nav a:text-is('Review')")
            page.wait_for_selector("#entry:visible")
            page.fill("#token", TOKEN)
            page.press("#token", "Enter")
            shows(page, "Row 1 of 4")
            assert not page.is_visible("#entry")


def test_the_page_of_the_api_can_be_read(browser, width, served):
    with watched(browser, width, served) as page:
        page.goto(f"{served}/docs")
        assert "PUT /v1/review/rows/{key}" in page.inner_text("main")
        assert fits(page)
        assert hindrances(page) == []


def test_a_row_is_free_again_when_its_tab_is_closed_or_leaves(browser, shop_model, queue):
    options = ("--review", str(queue), "--token-env", "TOKEN_OF_TESTS")
    with serving(shop_model, *options, TOKEN_OF_TESTS=TOKEN) as (port, _):
        own = f"http://127.0.0.1:{port}"

        def released(count):
            figures = get(port, "/metrics", Authorization=f"Bearer {TOKEN}")[2].decode()
            return f'{{path="/v1/review/release",status="200"}} {count}.0' in figures

        def review(page):
            page.goto(f"{own}/review")
            page.wait_for_selector("#entry:visible")
            page.fill("#token", TOKEN)
            page.press("#token", "Enter")

        with watched(browser, 1280, own, forgiven=("401",)) as stays:
            review(stays)
            shows(stays, "Row 1 of 4")
            with watched(browser, 1280, own, forgiven=("401",)) as leaves:
                review(leaves)
                shows(leaves, "Row 2 of 4")
                leaves.goto(f"{own}/docs")
            wait_until(lambda: released(1))
            with watched(browser, 1280, own, forgiven=("401",)) as closes:
                review(closes)
                shows(closes, "Row 2 of 4")
                closes.close(run_before_unload=True)
            wait_until(lambda: released(2))
            with watched(browser, 1280, own, forgiven=("401",)) as comes:
                review(comes)
                shows(comes, "Row 2 of 4")


def test_the_labels_and_proposals_are_those_of_a_model_that_came_meanwhile(
    browser, shop_model, renamed_model, queue, tmp_path
):
    folder = tmp_path / "model"
    shutil.copytree(shop_model, folder)
    with serving(folder, "--review", str(queue)) as (port, _):
        own = f"http://127.0.0.1:{port}"
        with watched(browser, 1280, own, forgiven=("422",)) as page:
            page.goto(f"{own}/review")
            shows(page, "Row 1 of 4")
            page.locator("#choices input[value=late]").check()
            put_in_place(folder, renamed_model)
            wait_for_model(port, Cascade.load(renamed_model).digest)
            page.click("#take")
            says(page, "unknown label 'late'. Did you mean 'too_late'?")
            assert chips(page) == ["double_charge"]
            page.locator("#choices input[value=too_late]").check()
            page.click("#take")
            shows(page, "Row 2 of 4")
            assert page.locator("#choices input[value=late]").count() == 0
    [line] = queue.with_name("in.reviewed.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["labels"] == ["double_charge", "too_late"]


# Rows one at a time


def test_a_row_is_accepted_corrected_skipped_and_taken_back(page, kept, tmp_path):
    assert page.inner_text("#text") == TEXTS[0]
    assert page.inner_text("#doubts") == "near their thresholds: refund\nno label reached its threshold"
    assert chips(page) == ["double_charge"]
    picture(page, tmp_path, "review")
    page.keyboard.press("Enter")
    shows(page, "Row 2 of 4")
    assert kept() == {"q1": {"double_charge"}}
    page.click("#chips button:has-text('angry')")
    page.keyboard.press("3")
    assert set(chips(page)) == {"broken", "refund"}
    page.keyboard.press("Enter")
    shows(page, "Row 3 of 4")
    assert kept()["q2"] == {"broken", "refund"}
    page.keyboard.press("s")
    shows(page, "Row 4 of 4")
    assert page.inner_text("#counts") == "1 accepted, 1 corrected, 1 skipped, 1 left"
    page.keyboard.press("u")
    shows(page, "Row 3 of 4")
    page.keyboard.press("u")
    shows(page, "Row 2 of 4")
    assert set(chips(page)) == {"broken", "refund"}
    assert kept() == {"q1": {"double_charge"}}
    assert page.inner_text("#counts") == "1 accepted, 0 corrected, 0 skipped, 3 left"
    assert fits(page)


def test_labels_are_searched_and_chosen_by_keys_alone(page, kept):
    page.keyboard.press("/")
    page.keyboard.type("vat m")
    assert page.inner_text("#matches") == "1 found"
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert set(chips(page)) == {"double_charge", "vat_missing"}
    assert page.input_value("#search") == ""
    page.keyboard.press("/")
    page.keyboard.type("broken")
    assert page.inner_text("#matches") == "2 found"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#choices input[value=broken]:checked").count() == 2
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    shows(page, "Row 2 of 4")
    assert kept() == {"q1": {"double_charge", "vat_missing", "broken"}}


def test_what_cannot_be_found_is_told(page):
    page.fill("#search", "no such thing")
    assert page.inner_text("#matches") == "0 found"
    assert page.locator("#choices .choice:visible").count() == 0


def test_of_one_kind_one_is_chosen_and_a_label_says_more_than_its_group(page, kept):
    for name in ("happy", "angry"):
        page.locator(f"#choices input[value={name}]").check()
    assert set(chips(page)) == {"double_charge", "angry"}
    page.locator("#choices input[value=delivery]").check()
    assert "delivery" in chips(page)
    page.locator("#choices input[value=late]").check()
    assert set(chips(page)) == {"double_charge", "angry", "late"}
    page.locator("#choices input[value=billing]").check()
    assert set(chips(page)) == {"angry", "late", "billing"}
    page.click("#take")
    shows(page, "Row 2 of 4")
    assert kept() == {"q1": {"angry", "late", "billing"}}


def test_a_note_goes_with_the_answer(page, queue):
    page.keyboard.press("n")
    page.keyboard.type("ask Ada, s/he knows")
    page.keyboard.press("Control+Enter")
    shows(page, "Row 2 of 4")
    [line] = queue.with_name("in.reviewed.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["review"]["note"] == "ask Ada, s/he knows"


def test_nothing_can_be_chosen_before_there_is_a_row_to_choose_it_for(browser, served, width):
    waiting = []
    with watched(browser, width, served) as page:
        page.route("**/v1/review/next", lambda route: waiting.insert(0, route))
        page.goto(f"{served}/review")
        page.wait_for_selector("#choices input")
        box = page.locator("#choices input").first
        with pytest.raises(Exception, match="Timeout"):
            box.check(timeout=500)
        waiting.pop().continue_()
        page.unroute("**/v1/review/next")
        box.check()
        assert box.input_value() in page.text_content("#chips")


def test_a_choice_outlives_a_reload(page):
    page.keyboard.press("2")
    before = chips(page)
    assert before == ["double_charge", "refund"]
    page.reload()
    shows(page, "Row 1 of 4")
    assert chips(page) == before


def test_two_tabs_get_two_rows_and_nothing_is_overwritten_unseen(page, browser, served, kept, width):
    with watched(browser, width, served, forgiven=("409",)) as other:
        other.goto(f"{served}/review")
        shows(other, "Row 2 of 4")
        other.click("#rows summary")
        other.click("#all li:nth-child(1) button")
        shows(other, "Row 1 of 4")
        page.keyboard.press("Enter")
        shows(page, "Row 3 of 4")
        other.locator("#choices input[value=faulty]").check()
        other.click("#take")
        other.wait_for_selector("#conflict:visible")
        assert "accepted: double_charge" in other.inner_text("#conflict")
        assert kept() == {"q1": {"double_charge"}}
        other.click("#conflict button:text-is('Take mine')")
        shows(other, "Row 2 of 4")
        assert kept() == {"q1": {"double_charge", "faulty"}}
        page.keyboard.press("u")
        says(page, "answered anew elsewhere")
        assert kept() == {"q1": {"double_charge", "faulty"}}


def test_rows_answered_before_are_found_and_changed(page, kept):
    page.keyboard.press("Enter")
    shows(page, "Row 2 of 4")
    page.click("#rows summary")
    page.select_option("#which", "answered")
    page.wait_for_function("() => document.querySelectorAll('#all button').length === 1")
    page.click("#all button")
    shows(page, "Row 1 of 4")
    assert "accepted" in page.inner_text("#where")
    page.locator("#choices input[value=refund]").check()
    page.click("#take")
    shows(page, "Row 2 of 4")
    assert kept() == {"q1": {"double_charge", "refund"}}


def test_at_the_end_nothing_is_left(page, kept):
    for row in (2, 3, 4):
        page.keyboard.press("Enter")
        shows(page, f"Row {row} of 4")
    page.keyboard.press("Enter")
    shows(page, "Nothing is left to look at")
    assert set(kept()) == {"q1", "q2", "q3", "q4"}
    page.keyboard.press("u")
    shows(page, "Row 4 of 4")


def test_words_for_a_label_are_marked(page):
    page.hover("#chips button")
    page.wait_for_selector("#text mark.for")
    assert {"charged", "twice"} & set(page.locator("#text mark.for").all_inner_texts())
    assert "double_charge: for it: " in page.inner_text("#marked")


def test_an_answer_that_was_not_taken_is_not_lost(browser, shop_model, queue, width):
    with (
        serving(shop_model, "--review", str(queue)) as (port, process),
        watched(browser, width, f"http://127.0.0.1:{port}", forgiven=("ERR_CONNECTION",)) as page,
    ):
        page.goto(f"http://127.0.0.1:{port}/review")
        shows(page, "Row 1 of 4")
        page.keyboard.press("2")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        page.keyboard.press("Enter")
        says(page, "Not kept")
        assert chips(page) == ["double_charge", "refund"]
        with serving(shop_model, "--review", str(queue), "--port", str(port)):
            page.keyboard.press("Enter")
            shows(page, "Row 2 of 4")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_hinders_who_reviews(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.keyboard.press("n")
    page.click("#rows summary")
    page.wait_for_selector("#all button")
    page.hover("#chips button")
    page.wait_for_selector("#marked .push")
    assert hindrances(page) == []

"""`cascade serve --review` and explanations over HTTP: real processes, asked over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")

from served import (
    TOKEN,
    ask,
    check_by_schemathesis,
    environment,
    get,
    put_in_place,
    run,
    serving,
    wait_for_model,
)

from cascade.fitted import Cascade
from cascade.predict.answers import prediction_rows
from cascade.predict.extras import Style
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.serve.explaining import Explainer
from cascade.serve.problems import HTTPProblem
from cascade.serve.review_endpoints import HELD_SECONDS, ReviewEndpoints
from cascade.show.explain import explain
from cascade.teach.queue import QueuedRow, read_queue, write_queue
from cascade.teach.review import Review
from cascade.teach.selection import Doubt

DOUBTS = (Doubt("near threshold", "late", 0.8), Doubt("nothing chosen", "", 1.0))


@pytest.fixture(scope="module")
def model(shop_model):
    return Cascade.load(shop_model)


def a_queue(path, model, count=6):
    texts = ["charged twice please", "smashed glass in my box", "été ☃ arrived slowly", "hello you"]
    rows = [
        QueuedRow(n, f"{texts[n % 4]} n{n}", ("late",) if n % 2 else (), {"late": 0.4}, DOUBTS, model.digest)
        for n in range(1, count + 1)
    ]
    write_queue(path, rows)
    return rows


@pytest.fixture
def queue(tmp_path, model):
    a_queue(tmp_path / "in.review.jsonl", model)
    return tmp_path / "in.review.jsonl"


@pytest.fixture
def port(shop_model, queue):
    with serving(shop_model, "--review", str(queue)) as (port, _):
        yield port


def answers(queue, taxonomy):
    rows, refused, _ = read_all([queue.with_name("in.reviewed.jsonl")], Columns(), taxonomy)
    assert refused == []
    return {row.id: row.labels for row in rows}


def call(port, method, path, body=None):
    status, _, found = ask(port, body, path, method)
    return status, json.loads(found)


def put(port, key, **answer):
    return call(port, "PUT", f"/v1/review/rows/{key}", answer)


def next_row(port, tab="one", after=""):
    return call(port, "POST", "/v1/review/next", {"tab": tab, "after": after})[1]["row"]


# Explanations


def test_an_explanation_is_that_of_the_command(port, model):
    text = "charged twice and smashed glass 😀"
    status, found = call(port, "POST", "/v1/explain", {"text": text, "words": 2})
    assert status == 200
    assert found == json.loads(json.dumps({"model": model.digest, **explain(model, text, 2).to_json()}))


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"text": "x" * 10_001}, "text"),
        ({"text": 3}, "text"),
        ({}, "text"),
        ({"text": "a", "words": 21}, "words"),
        ({"text": "a", "words": True}, "words"),
        ({"text": "a", "word": 3}, ""),
    ],
)
def test_what_cannot_be_explained_is_refused(port, body, where):
    status, found = call(port, "POST", "/v1/explain", body)
    assert (status, found.get("where", "")) == (422, where)


def test_too_many_explanations_are_told_to_come_back(model):
    explainer = Explainer()

    async def ask_many():
        asked = [explainer.answer(model, b'{"text": "late"}') for _ in range(200)]
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(ask_many())
    refused = [one for one in found if isinstance(one, HTTPProblem)]
    assert all(one.status == 503 and one.headers["Retry-After"] for one in refused)
    assert len(refused) == 200 - 64
    assert all(isinstance(one, bytes) for one in found if one not in refused)


# Rows and answers


def test_rows_come_one_at_a_time_and_answers_are_appended(port, queue, model):
    overview = call(port, "GET", "/v1/review")[1]
    assert [row["id"] for row in overview["rows"]] == [1, 2, 3, 4, 5, 6]
    assert overview["counts"] == {"accepted": 0, "corrected": 0, "skipped": 0, "left": 6}
    row = next_row(port)
    assert (row["id"], row["place"], row["proposed"], row["said"]) == (1, 1, ["late"], None)
    assert row["doubts"][0] == {"reason": "near threshold", "label": "late", "size": 0.8}
    status, told = put(port, row["key"], labels=["broken", "charged twice"], note="été", seen="")
    assert (status, told["row"]["said"]["verdict"]) == (200, "corrected")
    assert answers(queue, model.taxonomy) == {1: ("broken", "double_charge")}
    second = next_row(port, after=row["key"])
    assert put(port, second["key"], labels=[], seen="")[1]["row"]["said"]["verdict"] == "accepted"
    third = next_row(port, after=second["key"])
    assert put(port, third["key"], skip=True, note="?", seen="")[1]["counts"] == {
        "accepted": 1,
        "corrected": 1,
        "skipped": 1,
        "left": 3,
    }
    assert answers(queue, model.taxonomy) == {1: ("broken", "double_charge"), 2: ()}
    verdicts = [row["verdict"] for row in call(port, "GET", "/v1/review")[1]["rows"]]
    assert verdicts == ["corrected", "accepted", "skipped", None, None, None]


def test_an_answer_is_taken_back_and_changed(port, queue, model):
    row = next_row(port)
    said = put(port, row["key"], labels=["late"], seen="")[1]["row"]["said"]
    path = f"/v1/review/rows/{row['key']}"
    assert call(port, "DELETE", f"{path}?seen=another")[0] == 409
    status, told = call(port, "DELETE", f"{path}?seen={said['revision']}")
    assert (status, told["row"]["said"], told["counts"]["left"]) == (200, None, 6)
    assert answers(queue, model.taxonomy) == {}
    said = put(port, row["key"], labels=["late"], seen="")[1]["row"]["said"]
    assert put(port, row["key"], labels=["faulty"], seen=said["revision"])[0] == 200
    assert answers(queue, model.taxonomy) == {1: ("faulty",)}


def test_nobody_overwrites_what_they_have_not_seen(port, queue, model):
    row = next_row(port)
    theirs = put(port, row["key"], labels=["late"], seen="")[1]["row"]["said"]
    status, told = put(port, row["key"], labels=["faulty"], seen="")
    assert (status, told["status"], told["said"]) == (409, 409, theirs)
    assert answers(queue, model.taxonomy) == {1: ("late",)}


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"labels": ["lat"]}, 422, "unknown label 'lat'. Did you mean 'late'"),
        ({"labels": "late"}, 422, "labels is of the wrong kind"),
        ({"labels": [3]}, 422, "labels[0] is of the wrong kind"),
        ({"labels": [], "skip": True}, 422, "Labels, or skip?"),
        ({}, 422, "Labels, or skip?"),
        ({"skip": "yes"}, 422, "skip is of the wrong kind"),
        ({"labels": [], "note": 3}, 422, "note is of the wrong kind"),
        ({"labels": [], "sen": ""}, 422, "Unknown key. Did you mean 'seen'?"),
    ],
)
def test_answers_that_are_none_are_refused_and_nothing_is_written(port, queue, answer, status, said):
    found, told = put(port, next_row(port)["key"], **answer)
    assert found == status
    assert said in told["title"]
    assert not queue.with_name("in.reviewed.jsonl").exists()


def test_rows_that_are_not_there_and_other_types_are_refused(port):
    for method, body in (("GET", None), ("PUT", {"labels": []}), ("DELETE", None)):
        status, told = call(port, method, "/v1/review/rows/nothing", body)
        assert (status, told["title"]) == (404, "There is no such row.")
    status, _, _ = ask(port, b"{}", "/v1/review/next", "POST", Content_Type="text/plain")
    assert status == 415


def test_two_tabs_get_two_rows_and_a_third_as_many_as_there_are(port):
    first, second = next_row(port, "one"), next_row(port, "two")
    assert (first["id"], second["id"]) == (1, 2)
    assert next_row(port, "one")["id"] == 1
    for row in range(4):
        next_row(port, f"more-{row}")
    assert next_row(port, "late")["id"] == 1


def test_a_row_that_nobody_answers_is_free_again(model, tmp_path):
    time = [0.0]
    a_queue(tmp_path / "q.jsonl", model, 4)
    rows = read_queue(tmp_path / "q.jsonl", model.taxonomy)
    review = Review(rows, tmp_path / "a.jsonl", model.taxonomy, Columns())
    desk = ReviewEndpoints(review, lambda: model, clock=lambda: time[0])

    def following(tab):
        return json.loads(asyncio.run(desk.next(json.dumps({"tab": tab}).encode())).body)["row"]["id"]

    assert [following("one"), following("two"), following("three")] == [1, 2, 3]
    time[0] = HELD_SECONDS + 1
    assert following("four") == 1
    review.close()


def test_a_row_is_free_again_when_its_tab_is_closed(port):
    assert [next_row(port, tab)["id"] for tab in ("one", "two")] == [1, 2]
    status, told = call(port, "POST", "/v1/review/release", {"tab": "one"})
    assert (status, told["counts"]["left"]) == (200, 6)
    assert next_row(port, "three")["id"] == 1
    assert next_row(port, "four")["id"] == 3


def test_only_who_has_the_token_frees_a_row(shop_model, queue):
    options = ("--review", str(queue), "--token-env", "T")
    with serving(shop_model, *options, T=TOKEN) as (port, _):
        assert ask(port, {"tab": "one"}, "/v1/review/release")[0] == 401
        assert ask(port, {"tab": "one"}, "/v1/review/release", Authorization=f"Bearer {TOKEN}")[0] == 200


# Another model


@pytest.fixture
def renamed(renamed_model):
    return Cascade.load(renamed_model)


@pytest.fixture
def served(shop_model, queue, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(shop_model, folder)
    with serving(folder, "--review", str(queue)) as (port, process):
        yield port, folder, process


def test_rows_and_names_are_those_of_the_model_that_answers(served, renamed, renamed_model, queue):
    port, folder, process = served
    before = next_row(port)
    assert put(port, before["key"], labels=["late"], seen="")[0] == 200
    put_in_place(folder, renamed_model)
    wait_for_model(port, renamed.digest)
    row = next_row(port, after=before["key"])
    [expected] = prediction_rows(renamed, [2], [row["text"]], Style(scores="all"))
    assert (row["model"], row["proposed"]) == (renamed.digest, expected["labels"])
    assert row["scores"]["too_late"] == pytest.approx(expected["scores"]["too_late"], abs=1e-4)
    assert "late" not in {doubt["label"] for doubt in row["doubts"]}
    told = json.loads(get(port, "/openapi.json")[2])["components"]["schemas"]["ReviewAnswer"]
    assert "too_late" in told["oneOf"][0]["properties"]["labels"]["items"]["enum"]
    status, refused = put(port, row["key"], labels=["late"], seen="")
    assert (status, refused["title"]) == (422, "unknown label 'late'. Did you mean 'too_late'?")
    assert put(port, row["key"], labels=["too_late"], seen="")[0] == 200
    lines = queue.with_name("in.reviewed.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["labels"] for line in lines] == [["late"], ["too_late"]]
    process.terminate()
    said = process.stderr.read()
    assert "row 1: unknown label 'late'" in said
    assert said.count("These answers have names that model") == 1


def test_an_answer_is_compared_with_the_proposal_that_was_seen(served, renamed, renamed_model):
    port, folder, _ = served
    row = next_row(port)
    put_in_place(folder, renamed_model)
    wait_for_model(port, renamed.digest)
    assert call(port, "GET", f"/v1/review/rows/{row['key']}")[1]["row"]["proposed"] != ["late"]
    seen = put(port, row["key"], labels=["too_late"], seen="", model=row["model"])[1]["row"]["said"]
    assert seen["verdict"] == "corrected"
    now = call(port, "GET", f"/v1/review/rows/{row['key']}")[1]["row"]
    told = put(port, row["key"], labels=now["proposed"], seen=seen["revision"], model=now["model"])[1]
    assert told["row"]["said"]["verdict"] == "accepted"


def test_a_queue_of_another_model_is_shown_with_proposals_of_this_one(shop_model, tmp_path, renamed, model):
    queue = tmp_path / "in.review.jsonl"
    rows = [QueuedRow(1, "charged twice please", ("too_late",), {"too_late": 0.9}, (), renamed.digest)]
    write_queue(queue, rows)
    with serving(shop_model, "--review", str(queue)) as (port, _):
        row = next_row(port)
    assert (row["model"], row["proposed"]) == (model.digest, ["double_charge"])


def test_long_notes_and_names_are_refused(port, queue):
    key = next_row(port)["key"]
    status, told = put(port, key, labels=[], note="x" * 10_001)
    assert (status, told["where"]) == (422, "note")
    status, told = put(port, key, labels=["x" * 1_001])
    assert (status, told["where"]) == (422, "labels[0]")
    assert not queue.with_name("in.reviewed.jsonl").exists()
    assert put(port, key, labels=[], note="x" * 10_000, seen="")[0] == 200


def test_answers_of_many_at_once_are_all_kept(shop_model, tmp_path, model):
    queue = tmp_path / "in.review.jsonl"
    rows = a_queue(queue, model, 60)
    with serving(shop_model, "--review", str(queue)) as (port, _), ThreadPoolExecutor(8) as people:
        done = list(people.map(lambda row: put(port, row.key, labels=["late"], seen="")[0], [*rows, *rows]))
    assert sorted(done) == [200] * 60 + [409] * 60
    assert answers(queue, model.taxonomy) == dict.fromkeys(range(1, 61), ("late",))


def test_a_killed_service_has_lost_nothing_that_was_taken(shop_model, tmp_path, model):
    queue = tmp_path / "in.review.jsonl"
    rows = a_queue(queue, model, 400)
    command = [sys.executable, "-m", "cascade", "serve", "--model", str(shop_model), "--port", "0"]
    taken = []
    with subprocess.Popen(
        [*command, "--review", str(queue)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    ) as process:
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        threading.Timer(0.5, os.kill, (process.pid, signal.SIGKILL)).start()
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            for row in rows * 100:
                taken += [row.id] if put(port, row.key, labels=["faulty"], seen="")[0] == 200 else []
    assert taken
    with serving(shop_model, "--review", str(queue)) as (port, _):
        said = {row["id"]: row["verdict"] for row in call(port, "GET", "/v1/review")[1]["rows"]}
    assert all(said[number] == "corrected" for number in taken)
    assert set(taken) <= answers(queue, model.taxonomy).keys()


def test_everything_of_a_review_wants_the_token_but_its_page(shop_model, queue):
    options = ("--review", str(queue), "--token-env", "TOKEN_OF_TESTS")
    with serving(shop_model, *options, TOKEN_OF_TESTS=TOKEN) as (port, _):
        assert get(port, "/review")[0] == 200
        for path in ("/v1/review", "/v1/review/rows/x"):
            assert get(port, path)[0] == 401
        assert ask(port, {"tab": "1"}, "/v1/review/next")[0] == 401
        assert ask(port, {"text": "a"}, "/v1/explain")[0] == 401
        assert b"vat_wrong" not in get(port, "/openapi.json")[2] + get(port, "/review")[2]
        assert get(port, "/v1/review", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_there_is_no_review_without_a_queue(shop_model):
    with serving(shop_model) as (port, _):
        assert get(port, "/review")[0] == 404
        assert b"/review" not in get(port, "/")[2].split(b"<script>")[0]
        assert "/v1/review" not in json.loads(get(port, "/openapi.json")[2])["paths"]


# The command


def test_a_second_service_does_not_write_the_same_answers(port, shop_model, queue):
    code, said = run("--model", str(shop_model), "--port", "0", "--review", str(queue))
    assert code == 1
    assert "in.reviewed.jsonl.lock: another run is writing here" in said


def test_what_is_no_queue_is_told(shop_model, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "late"}\n', "utf-8")
    for name, said in (
        ("texts.jsonl", "`cascade review TEXTS` writes one"),
        ("none.jsonl", "no such file"),
    ):
        code, found = run("--model", str(shop_model), "--port", "0", "--review", str(tmp_path / name))
        assert code == 1
        assert said in found
    code, found = run("--model", str(shop_model), "--answers", "a.jsonl")
    assert code == 2
    assert "name that with --review" in found


def test_answers_go_where_they_are_wanted(shop_model, queue, tmp_path):
    wanted = tmp_path / "there" / "mine.jsonl"
    with serving(shop_model, "--review", str(queue), "--answers", str(wanted)) as (port, _):
        put(port, next_row(port)["key"], labels=["late"], seen="")
        put(port, next_row(port)["key"], skip=True, seen="")
    assert sorted(path.name for path in wanted.parent.iterdir()) == ["mine.jsonl", "mine.skipped.jsonl"]


def test_what_was_reviewed_teaches(shop_model, tmp_path, model):
    texts = ({"id": n, "text": f"hello shop, an unheard of thing n{n}"} for n in range(30))
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(text)}\n" for text in texts), "utf-8")
    words = ("review", "texts.jsonl", "--model", str(shop_model), "--rows", "3")
    made = subprocess.run(
        [sys.executable, "-m", "cascade", *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    queue = tmp_path / "texts.review.jsonl"
    with serving(shop_model, "--review", str(queue)) as (port, _):
        row = next_row(port)
        put(port, row["key"], labels=["vat_wrong"], seen="")
    rows, refused, _ = read_all([tmp_path / "texts.reviewed.jsonl"], Columns(), model.taxonomy)
    assert ([one.labels for one in rows], refused) == ([("vat_wrong",)], [])


# The description


def test_the_description_tells_of_the_review_and_answers_are_as_described(port):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    told = json.loads(get(port, "/openapi.json")[2])
    components = told["components"]

    def check(name, value):
        jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": components})

    row = next_row(port)
    check("Reviewing", call(port, "GET", "/v1/review")[1])
    check("ReviewNext", call(port, "POST", "/v1/review/next", {"tab": "one"})[1])
    check("ReviewReleased", call(port, "POST", "/v1/review/release", {"tab": "one"})[1])
    check("Reviewed", put(port, row["key"], labels=["late"], seen="")[1])
    check("Reviewed", call(port, "GET", f"/v1/review/rows/{row['key']}")[1])
    check("Reviewing", call(port, "GET", "/v1/review")[1])
    check("Explanation", call(port, "POST", "/v1/explain", {"text": "smashed glass"})[1])
    answers = call(port, "POST", "/v1/predict", {"text": "smashed glass", "evidence": True, "trace": True})[1]
    [row] = answers["rows"]
    check("Answers", answers)
    [carried] = row["evidence"]
    assert carried["spans"]
    check("LabelEvidence", carried)
    for path, name in (
        ("/v1/review/next", "ReviewAsked"),
        ("/v1/review/release", "ReviewTab"),
        ("/v1/explain", "Wondering"),
    ):
        content = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}
        check(name, content["examples"]["one"]["value"])


def test_schemathesis_finds_nothing(port, tmp_path):
    check_by_schemathesis(port, tmp_path)

"""Answers as rows: how sure they are, which become rows and which are queued, and that none is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import pytest
import yaml
from hosted_runs import environment, run, sandbox
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import command

from cascade.errors import DataError
from cascade.rows.row import Row
from cascade.teach.labelling import confidence, decisions, in_order, least_sure, paired
from cascade.teach.queue import QueuedRow
from cascade.teach.selection import Doubt


def visited(node, path, **more):
    return {"node": node, "parent": "", "conditional": path, "path": path, "threshold": 0.5, **more}


def answer(*trace, labels=("late",), **more):
    return {"id": 1, "labels": list(labels), "scores": {}, "trace": list(trace), **more}


def test_an_answer_is_as_sure_as_its_least_certain_decision():
    found = answer(
        visited("delivery", 0.9, entered=True),
        visited("billing", 0.1, entered=False),
        visited("late", 0.85, chosen=True),
        visited("lost", 0.3, chosen=False),
    )
    assert [one.name for one in decisions(found)] == ["lost", "late", "billing"]
    assert confidence(found) == 0.7


def test_a_group_that_was_nearly_entered_makes_an_answer_unsure():
    assert confidence(answer(visited("a", 0.45, entered=False), visited("late", 0.99, chosen=True))) == 0.55


def test_what_a_combiner_says_counts_for_labels():
    assert confidence(answer(visited("late", 0.5, chosen=True, probability=0.95))) == 0.95


def test_nothing_known_and_nothing_said_are_not_sure():
    nothing = {"node": "", "parent": "", "why": "nothing known"}
    far = visited("late", 0.01, chosen=False)
    assert confidence(answer(nothing, far)) == 0
    assert confidence(answer(far, labels=(), calibrated=False)) == 0
    assert confidence(answer(far, labels=())) == 0.99
    assert confidence(answer()) == 0


def test_a_share_is_that_of_the_surest():
    assert least_sure([0.1, 0.9, 0.5, 0.7], 0.5) == 0.7
    assert least_sure([0.0, 0.0, 0.9], 1.0) > 0
    assert least_sure([], 0.5) == 1.0


@pytest.mark.parametrize("ids", [[1, 3], [1], [1, 2, 3], []])
def test_a_file_that_changed_meanwhile_is_told(ids):
    rows = [Row(number, number, "x", (), {}, "t") for number in (1, 2)]
    with pytest.raises(DataError, match="changed while"):
        list(paired(rows, frozenset(), [{"id": one} for one in ids], "t.jsonl"))


def test_rows_without_an_answer_are_passed_over():
    rows = [Row(number, "same", str(number), (), {}, "t") for number in (1, 2, 3)]
    found = list(paired(rows, {2}, [{"id": "same", "at": 1}, {"id": "same", "at": 3}], "t"))
    assert [(row.number, one["at"]) for row, one in found] == [(1, 1), (3, 3)]


DOUBTS = st.lists(
    st.builds(Doubt, st.just("not sure"), st.sampled_from("abc"), st.floats(0.05, 1)), max_size=3
)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["one text", "another one", "one text more", ""]), DOUBTS)))
def test_every_row_of_a_queue_stands_in_it_once(given_rows):
    rows = [QueuedRow(at, text, (), {}, tuple(doubts), "m") for at, (text, doubts) in enumerate(given_rows)]
    assert sorted(one.id for one in in_order(rows)) == list(range(len(rows)))


def test_rows_that_say_the_same_come_late():
    doubt = (Doubt("not sure", "a", 0.5),)
    texts = ["the vase is broken", "the vase is broken", "where is my refund"]
    rows = [QueuedRow(at, text, (), {}, doubt, "m") for at, text in enumerate(texts)]
    assert [one.id for one in in_order(rows)] == [0, 2, 1]


# As commands, against a sandbox

SAYINGS = {
    "billing": {"refund": "I want a refund", "invoice": "no invoice came"},
    "delivery": {"late": "it came late", "broken": "all broken inside", "lost": "the parcel is lost"},
}


def texts(count, seed=1):
    draw = random.Random(seed)
    said = {label: text for labels in SAYINGS.values() for label, text in labels.items()}
    made = []
    for number in range(count):
        names = draw.sample(list(said), draw.choice([0, 1, 1, 2]))
        text = ", ".join([said[name] for name in names] or ["just saying hello"])
        made.append({"id": f"r{number}", "text": f"{text}, order {number}", "labels": sorted(names)})
    return made


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def put(folder, address):
    folder.mkdir(parents=True, exist_ok=True)
    service = {"provider": "compatible", "base_url": address, "api_key_env": "SANDBOX_KEY", "model": "reader"}
    groups = {name: {"labels": list(labels)} for name, labels in SAYINGS.items()}
    described = {"name": "shop", "groups": groups}
    asks = {**described, "defaults": {"backend": {"kind": "prompt", **service}}}
    for name, one in {"asks": asks, "learns": described}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(one, sort_keys=False), "utf-8")
    written(folder / "texts.jsonl", [{"id": row["id"], "text": row["text"]} for row in texts(120)])
    written(folder / "test.jsonl", texts(60, 2))
    run(folder, "fit", "asks.yaml", "--out", "asks")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as address:
        yield address


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, service):
    folder = put(tmp_path_factory.mktemp("labelled"), service)
    return folder, run(folder, *LABEL, "--json")


LABEL = ("label", "texts.jsonl", "--model", "asks", "--out", "rows.jsonl", "--sure", "0.6")


def test_every_text_is_a_row_or_queued_with_what_was_answered(labelled):
    folder, done = labelled
    found = json.loads(done.stdout)
    rows, queue = lines(folder / "rows.jsonl"), lines(folder / "rows.review.jsonl")
    assert (found["rows"], found["queued"]) == (len(rows), len(queue))
    assert rows
    assert queue
    ids = [row["id"] for row in (*rows, *queue)]
    assert sorted(ids) == sorted(row["id"] for row in texts(120))
    assert all(
        row["confidence"] >= 0.6 and row["labels"] and list(row["scores"]) == row["labels"] for row in rows
    )
    assert all(row["doubts"] for row in queue)
    assert sorted(folder.glob("*answers*")) == []


def test_labelled_rows_and_what_a_person_said_make_an_embedded_model(labelled):
    folder, _ = labelled
    true = {row["id"]: row for row in texts(120)}
    said = [true[row["id"]] for row in lines(folder / "rows.review.jsonl")[:20]]
    written(folder / "rows.reviewed.jsonl", said)
    data = ("--data", "rows.jsonl", "--data", "rows.reviewed.jsonl")
    run(folder, "fit", "learns.yaml", "--out", "learned", *data)
    found = json.loads(run(folder, "evaluate", "test.jsonl", "--model", "learned", "--json").stdout)
    assert found["micro_f1"] > 0.8

    again = run(folder, "label", "texts.jsonl", "--model", "learned", "--out", "more.jsonl", "--json")
    assert json.loads(again.stdout)["rows"] > 0
    assert "requests" not in again.stderr

    before = lines(folder / "rows.jsonl")
    repeated = json.loads(run(folder, *LABEL, "--json").stdout)
    assert repeated["left_out"] == 20
    assert lines(folder / "rows.jsonl") == before
    left = {row["id"] for row in lines(folder / "rows.review.jsonl")}
    assert left.isdisjoint(row["id"] for row in said)
    (folder / "rows.reviewed.jsonl").unlink()


def test_nothing_is_asked_twice(labelled):
    folder, _ = labelled
    before = (folder / "rows.jsonl").read_bytes()
    told = run(folder, *LABEL).stderr
    assert " 0 requests" in told
    assert (folder / "rows.jsonl").read_bytes() == before


def test_a_share_of_the_answers_can_be_wanted(labelled, tmp_path):
    folder, _ = labelled
    words = ("label", "texts.jsonl", "--model", "asks", "--out", tmp_path / "rows.jsonl", "--json")
    half = json.loads(run(folder, *words, "--sure", "50%").stdout)
    few = json.loads(run(folder, *words, "--sure", "10%").stdout)
    assert few["rows"] >= 12
    assert few["rows"] < half["rows"]
    assert few["sure"] > half["sure"]


def test_rows_that_cannot_be_used_are_written_aside(labelled, tmp_path):
    folder, _ = labelled
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        '{"id": 1, "text": "it came late"}\n{"id": 2}\nnothing\n{"id": 4, "text": "refund"}\n', "utf-8"
    )
    out = tmp_path / "rows.jsonl"
    done = run(folder, "label", bad, "--model", "asks", "--out", out, "--sure", "0.01", code=3)
    assert [row["id"] for row in lines(out)] == [1, 4]
    assert [row["row"] for row in lines(tmp_path / "rows.errors.jsonl")] == [2, 3]
    assert "2 rows refused" in done.stderr


def test_a_queue_of_other_answers_goes_where_nothing_is_in_doubt(labelled, tmp_path):
    folder, _ = labelled
    written(tmp_path / "one.jsonl", [{"id": 1, "text": "it came late"}])
    (tmp_path / "rows.review.jsonl").write_text("{}\n", "utf-8")
    words = ("label", tmp_path / "one.jsonl", "--model", "asks", "--out", tmp_path / "rows.jsonl")
    told = run(folder, *words, "--sure", "0.01").stdout
    assert not (tmp_path / "rows.review.jsonl").exists()
    assert "next: cascade fit TAXONOMY --data" in told


def test_wrong_usage_is_told_before_anything_is_asked(labelled):
    folder, _ = labelled
    assert "expected a probability" in run(folder, *LABEL[:-1], "high", code=2).stderr
    assert "expected a probability" in run(folder, *LABEL[:-1], "120%", code=2).stderr
    assert "ends in .jsonl" in run(folder, *LABEL[:4], "--out", "rows.csv", code=2).stderr
    assert "read twice" in run(folder, "label", "-", "--model", "asks", "--out", "r.jsonl", code=2).stderr
    overwritten = run(folder, *LABEL[:4], "--out", "texts.jsonl", code=1).stderr
    assert "holds the texts" in overwritten


def test_a_dry_run_tells_questions_and_writes_nothing(labelled, tmp_path):
    folder, _ = labelled
    told = run(folder, *LABEL[:4], "--out", tmp_path / "rows.jsonl", "--dry-run")
    assert "questions" in told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    with sandbox(tmp_path / "sandbox", "--latency", "0.02") as address:
        folder = put(tmp_path / "shop", address)
        written(folder / "texts.jsonl", [{"text": row["text"]} for row in texts(600)])
        home = {"CASCADE_HOME": str(tmp_path / "home")}
        words = ("label", "texts.jsonl", "--model", "asks", "--out", "killed.jsonl")
        going = subprocess.Popen(
            command(*words),
            cwd=folder,
            env=environment(**home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not (folder / "killed.jsonl.answers.jsonl.part").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        going.send_signal(signal.SIGKILL)
        going.wait()
        assert not (folder / "killed.jsonl").exists()
        run(folder, *words, **home)
        run(folder, *words[:-1], "whole.jsonl", **home)
    assert (folder / "killed.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    assert (folder / "killed.review.jsonl").read_bytes() == (folder / "whole.review.jsonl").read_bytes()
    assert sorted(path.name for path in folder.glob("killed*")) == ["killed.jsonl", "killed.review.jsonl"]
